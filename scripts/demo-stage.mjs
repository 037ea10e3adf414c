// What the demos share: hosts in namespaces, commands shown as a user would type them, and an end that leaves nothing.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pc from "picocolors";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What a demo expected and did not see. */
export class Stop extends Error {}

export class Stage {
  bin = join(root, "dist/bin");
  lib = join(root, "dist/lib");
  scratch = mkdtempSync(join(tmpdir(), "netctl-demo-"));
  #tag = `netctl-demo-${process.pid}`;
  #cleanups = [];

  /** Something to be done at the end, the last one first. */
  atEnd(action) {
    this.#cleanups.push(action);
  }

  /** Runs a command; its output. @throws {Stop} */
  run(command, args, options = {}) {
    const { status, stdout, stderr, error } = spawnSync(command, args, {
      encoding: "utf8",
      timeout: 60_000,
      ...options,
    });
    if (error) throw new Stop(`Cannot run ${command}: ${error.message}`);
    if (status !== 0) throw new Stop(`${command} ${args.join(" ")}\n${stdout}${stderr}`);
    return stdout.trimEnd();
  }

  /** A namespace with `lo` up; its name. */
  host(name) {
    const full = `${this.#tag}-${name}`;
    this.run("ip", ["netns", "add", full]);
    this.atEnd(() => spawnSync("ip", ["netns", "delete", full]));
    this.run("ip", ["-n", full, "link", "set", "lo", "up"]);
    return full;
  }

  /** A program that runs in a namespace until the end, or until it is killed. */
  start(namespace, command, args, options = {}) {
    const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "--", command, ...args], {
      stdio: "ignore",
      ...options,
    });
    this.atEnd(() => child.kill("SIGKILL"));
    return child;
  }

  /** A command in a namespace, shown with its output. `prompt` says where that is. */
  show(namespace, prompt, words, options = {}) {
    console.log(`${pc.dim(`  ${prompt}$ `)}${pc.bold(words.join(" "))}`);
    const [program, ...args] = words;
    const file = program === "netctl" ? join(this.bin, "netctl") : program;
    const output = this.run("nsenter", [`--net=/run/netns/${namespace}`, "--", file, ...args], options);
    if (output) console.log(output.replace(/^/gm, "    "));
    return output;
  }

  title(text) {
    console.log(`\n${pc.cyan(pc.bold(text))}`);
  }

  say(text) {
    console.log(`    ${text}`);
  }

  expect(what, isTrue) {
    if (!isTrue) throw new Stop(`Expected ${what}`);
    console.log(`    ${pc.green("✓")} ${what}`);
  }

  /** Asks again until it is so. @throws {Stop} after half a minute */
  async until(what, isSo) {
    for (let attempt = 0; attempt < 300; attempt++) {
      if (isSo()) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Stop(`Waited in vain until ${what}`);
  }

  /** Runs a demo, whatever becomes of it cleans up, and sets the exit code. */
  async play(demo) {
    for (const signal of ["SIGINT", "SIGTERM"]) {
      process.once(signal, () => {
        this.#end();
        process.exit(130);
      });
    }
    const started = Date.now();
    try {
      await demo();
      console.log(`\n${pc.green("Done")} in ${((Date.now() - started) / 1000).toFixed(1)} s`);
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      console.error(`\n${pc.red("The demo stopped:")} ${error.message}`);
      process.exitCode = 1;
    } finally {
      this.#end();
    }
  }

  #end() {
    for (const action of this.#cleanups.splice(0).reverse()) action();
    const mounts = this.run("sh", ["-c", `grep -o '${this.scratch}[^ ]*' /proc/self/mounts || true`]);
    for (const mount of mounts.split("\n").filter(Boolean)) spawnSync("umount", ["-l", mount]);
    rmSync(this.scratch, { recursive: true, force: true, maxRetries: 3 });
  }
}
