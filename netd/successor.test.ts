import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ProgramWatch } from "./program-watch.ts";
import { canBeStarted } from "./successor.ts";

let directory: string;
let program: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-successor-"));
  program = join(directory, "netd.cjs");
  writeFileSync(program, "");
});
afterEach(() => rmSync(directory, { recursive: true }));

async function tryIt(text: string, signal = new AbortController().signal) {
  const reasons: string[] = [];
  writeFileSync(program, `require("node:fs").appendFileSync(__dirname + "/tries", "x");\n${text}`);
  const isWell = await canBeStarted({
    program,
    nodeArguments: [],
    environment: { PATH: process.env["PATH"], NETCTL_NETD_LOCK_FD: "3" },
    signal,
    onFailure: (reason) => reasons.push(reason),
    pausesMs: [0, 0, 0],
  });
  return { isWell, reasons, tries: readFileSync(join(directory, "tries"), "utf8").length };
}

describe("canBeStarted()", () => {
  it("tries what fails three times, and says why", async () => {
    expect(await tryIt("null.x")).toEqual({
      isWell: false,
      reasons: Array.from({ length: 3 }, () => expect.stringMatching(/^it ended with 1: TypeError: .*null/)),
      tries: 3,
    });
    const killed = await tryIt('process.kill(process.pid, "SIGKILL"); setTimeout(() => {}, 9000);');
    expect(killed.reasons[0]).toBe("it was ended by SIGKILL");
  });

  it("needs one that succeeds, and takes no lock for it", async () => {
    const text = "process.exit(process.env.NETCTL_NETD_LOCK_FD ? 1 : 0);";
    expect(await tryIt(text)).toEqual({ isWell: true, reasons: [], tries: 1 });
  });
});

describe("ProgramWatch", () => {
  it("waits until an installer has ended, and tells what is new once", () => {
    const watch = new ProgramWatch(program);
    expect(watch.look()).toBe("same");
    writeFileSync(join(directory, "netd.js"), "1");
    expect([watch.look(), watch.look()]).toEqual(["changing", "replaced"]);
    watch.passOver();
    expect(watch.look()).toBe("same");
    rmSync(program);
    expect([watch.look(), watch.look()]).toEqual(["changing", "gone"]);
  });
});
