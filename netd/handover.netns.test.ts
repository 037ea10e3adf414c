import { cpSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addressesOf, NamesRig, type RigContainer } from "#testing/names-rig.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";

let service: BuiltService;
let installed: BuiltService;
let rig: InstalledRig;
let program: string;

/** A host on which launchers start netd. */
class InstalledRig extends NamesRig {
  override get environment(): Record<string, string> {
    return { ...super.environment, NETCTL_NETD: "", NETCTL_IDLE_EXIT_SECONDS: "600" };
  }
}

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  const at = join(dirname(service.lib), `installed-${performance.now()}`);
  installed = { bin: join(at, "bin"), lib: join(at, "lib"), foreign: service.foreign, remove: () => {} };
  mkdirSync(at);
  cpSync(service.bin, installed.bin, { recursive: true });
  cpSync(service.lib, installed.lib, { recursive: true });
  program = readFileSync(join(service.lib, "netd.cjs"), "utf8");
  rig = new InstalledRig(installed);
  await rig.call("STATUS");
  await rig.untilServed();
});
afterEach(() => rig.remove());

/** As `netctl install` does it: whole or not at all. */
function install(text: string): void {
  const path = join(installed.lib, "netd.cjs");
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(50);
}

const linesWith = (text: string) =>
  rig
    .log()
    .split("\n")
    .filter((line) => line.includes(text));

/** `dig` waits for five seconds and asks three times. */
const answersOf = (container: RigContainer) => rig.dig(container, "db");

describe("another version, installed over a netd that a launcher has started", () => {
  test("takes its place by itself: names are answered without any call", async () => {
    const web = await rig.container("web", { names: ["web"] });
    const db = await rig.container("db", { names: ["db"] });
    const before = await rig.servicePid();
    expect(answersOf(web)).toEqual([addressesOf(db)[0]]);
    install(`${program}\n// 2`);
    await rig.logged("handed over");
    await until(() => !rig.netds().includes(before));
    const after = await rig.servicePid();
    expect(after).not.toBe(before);
    expect(rig.netds()).toEqual([after]);
    expect(answersOf(web)).toEqual([addressesOf(db)[0]]);
    const events = linesWith('"type":"netd"').map((line) => {
      const { pid, event } = JSON.parse(line) as {
        pid: number;
        event: { action: string; attributes?: object };
      };
      return [pid, event.action, event.attributes];
    });
    expect(events).toEqual([
      [before, "start", undefined],
      [before, "stop", { reason: "another version was installed" }],
      [after, "start", undefined],
      [before, "handover", { to: String(after) }],
    ]);
    // And so does the one after it.
    install(`${program}\n// 3`);
    await until(() => linesWith('"handed over"').length === 2);
    expect(answersOf(web)).toEqual([addressesOf(db)[0]]);
    expect(await rig.call("STATUS")).toMatchObject({ exitCode: 0, by: ["netd"] });
  });

  test("waits for the verbs that run", async () => {
    const netns = rig.namespace().path;
    const before = await rig.servicePid();
    const add = await rig.startWaiting({ netns });
    install(`${program}\n// 2`);
    await rig.logged('"stopping"');
    rig.openGate();
    expect(await add.ended).toMatchObject({ exitCode: 0, by: ["netd"] });
    await rig.logged("handed over");
    expect(await rig.servicePid()).not.toBe(before);
    const config = rig.config({ ipam: { type: "waiting" } });
    expect(
      await rig.call("CHECK", {
        netns,
        config: { ...config, prevResult: JSON.parse((await add.ended).stdout) },
      }),
    ).toMatchObject({ exitCode: 0 });
    expect(await rig.call("DEL", { netns, config })).toMatchObject({ exitCode: 0, by: ["netd"] });
    expect(rig.remains()).toEqual([]);
  });

  test("is not given the place where it can't be started; the one after it is", async () => {
    const web = await rig.container("web", { names: ["db"] });
    const before = await rig.servicePid();
    install("throw new TypeError('it is broken');");
    await rig.logged("cannot start the version that was installed");
    expect(linesWith("cannot start the version")[0]).toContain("it ended with 1: TypeError: it is broken");
    expect(answersOf(web)).toEqual([addressesOf(web)[0]]);
    expect(await rig.call("STATUS")).toMatchObject({ exitCode: 0, by: ["netd"] });
    expect(rig.netds()).toEqual([before]);
    install(`${program}\n// 3`);
    await rig.logged("handed over");
    expect(answersOf(web)).toEqual([addressesOf(web)[0]]);
    expect(linesWith("cannot start the version")).toHaveLength(1);
  });

  test("that does not come to serve is tried three times, and the host goes on without", async () => {
    install("process.exit(process.env.NETCTL_NETD_LOCK_FD ? 3 : 0);");
    await until(() => rig.netds().length === 0);
    const failures = linesWith("cannot hand over");
    expect(failures).toHaveLength(3);
    expect(failures.every((line) => line.includes('"reason":"it ended with 3"'))).toBe(true);
    const netns = rig.namespace().path;
    expect(await rig.call("ADD", { netns })).toMatchObject({ exitCode: 0, by: ["standalone"] });
  });

  test("is let go of where netd is told to end", async () => {
    const before = await rig.servicePid();
    install("setInterval(() => {}, 1000);");
    await until(() => rig.netds().length === 2);
    process.kill(before, "SIGTERM");
    await until(() => rig.netds().length === 0);
    expect(linesWith("cannot start")).toEqual([]);
    expect(linesWith('"stopping"')[0]).toContain('"reason":"SIGTERM"');
  });

  test("and one that is taken away ends it", async () => {
    renameSync(join(installed.lib, "netd.cjs"), join(installed.lib, "netd.old"));
    await until(() => rig.netds().length === 0);
    expect(rig.log()).toContain('"reason":"its program was removed"');
  });
});
