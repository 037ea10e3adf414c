// Who is measured: our executables with the warm service, ours without it, the peer's, and the bare kernel.
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { Driver, planOf } from "./driver.mjs";

export const titles = { ours: "ours", standalone: "standalone", peer: "Go", floor: "kernel" };

/**
 * A folder for one run, removed by `remove`. Not in /tmp, which may be in memory: state and leases are on a disk on a
 * real host, and a plugin that makes sure of what it wrote pays for that.
 */
export function makeScratch() {
  const path = mkdtempSync("/var/tmp/netctl-bench-");
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }) };
}

/** What the state directories lie on, as statfs(2) numbers it. */
export function filesystemOf(path) {
  const { type } = statfsSync(path);
  return (
    { 0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x01021994: "tmpfs", 0x794c7630: "overlay" }[
      type
    ] ?? `type ${type}`
  );
}

/** Names of the executables that are not in `folder`. */
export function missingExecutables(folder, names) {
  return [...new Set(names)].filter((name) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return false;
    } catch {
      return true;
    }
  });
}

/** Containers of the measured blocks; those that are only there have the numbers below. */
const firstMeasured = 10_000;
/** MAX_INDEX of bench/driver/driver.h */
const maxIndex = 60_000;

/** One subject set up for one case, on its own host, with directories of its own. */
export class Subject {
  #next = firstMeasured;

  static async start({ name, benchCase, scratch, folders }) {
    const subject = new Subject();
    subject.name = name;
    subject.benchCase = benchCase;
    const directory = join(scratch, `${benchCase.name}-${name}`);
    const run = join(directory, "run");
    mkdirSync(directory, { mode: 0o700 });
    const environment = { NETCTL_STATE_DIR: join(directory, "state"), NETCTL_RUN_DIR: join(run, "netctl") };
    if (name === "standalone") environment.NETCTL_STANDALONE = "1";
    subject.driver = await Driver.start({
      name,
      directory,
      interfaceName: benchCase.interfaceName,
      uplink: benchCase.uplink,
      ...(name === "floor" ? { floor: benchCase.floor } : { plugins: folders[name], environment }),
    });
    if (name !== "floor") {
      const conflist = benchCase.conflist(join(directory, "leases"));
      await subject.driver.usePlan(planOf(conflist, benchCase.runtimeValues));
    }
    return subject;
  }

  /** One block of `count` calls or pairs of calls; answers the driver's lines. */
  async block(count) {
    const { mode, verb, parallel } = this.benchCase;
    if (mode === "probe") return await this.driver.ask(`probe ${verb} ${count}`);
    // A long case starts again with the first number: those containers are gone by then.
    if (this.#next + count > maxIndex) this.#next = firstMeasured;
    const first = this.#next;
    this.#next += count;
    return await this.driver.ask(`${mode} ${first} ${count}${parallel ? ` ${parallel}` : ""}`);
  }

  /**
   * Uncounted calls: bridge and rules are made, programs are in the page cache, and a warm service had the time to
   * come up. Throws when they fail: such a subject has nothing to measure.
   */
  async warmUp() {
    let lines = await this.block(3);
    if (this.name === "ours" && (await this.services()).length > 0) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      lines = await this.block(5);
    }
    const failed = lines.find((line) => line.failure !== undefined);
    if (failed)
      throw new Error(
        `${titles[this.name]}: ${failed.verb}: ${failed.failure}\n${this.driver.errorLog()}`.trim(),
      );
  }

  /** Makes the containers that are there meanwhile; their failures, which make the case void. */
  async fill() {
    if (this.benchCase.existing === 0) return;
    const lines = await this.driver.ask(`fill 0 ${this.benchCase.existing} 4`);
    const failed = lines.find((line) => line.failure !== undefined);
    if (failed)
      throw new Error(
        `${titles[this.name]}: while making ${this.benchCase.existing} containers: ${failed.failure}`,
      );
  }

  /** Processes that the plugins left running, with resident memory and open files. */
  async services() {
    return await this.driver.ask("services");
  }

  async describeServices(when) {
    return (await this.services()).map(({ service, residentKib, files }) => {
      // Without the folders: the page is not about one machine.
      const command = service.replaceAll(/\S*\//g, "");
      const memory = (residentKib / 1024).toFixed(0);
      return `${titles[this.name]}: "${command}" runs, ${memory} MiB resident and ${files} open files ${when}`;
    });
  }
}
