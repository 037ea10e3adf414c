import { appendFileSync, mkdtempSync, renameSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { olderLogFile } from "#machine/log-file.ts";
import type { LogLine } from "./line.ts";
import { readLog } from "./read.ts";

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-read-"));
  path = join(directory, "netctl.log");
});
afterEach(() => rmSync(directory, { recursive: true }));

let time = 0;
const write = (msg: string, file = path) =>
  appendFileSync(file, `${JSON.stringify({ level: "info", time: ++time, msg })}\n`);

async function take(lines: AsyncGenerator<LogLine, void>, count: number): Promise<readonly string[]> {
  const taken: string[] = [];
  while (taken.length < count) {
    const { value, done } = await lines.next();
    if (done === true) break;
    taken.push(value.message);
  }
  return taken;
}

const all = Number.POSITIVE_INFINITY;

describe("readLog()", () => {
  it("gives what there is, oldest first, and passes over what is no line", async () => {
    write("a", olderLogFile(path));
    write("b");
    appendFileSync(path, '{"level":"info","ti\n[]\nnull\n');
    write("c");
    appendFileSync(path, '{"level":"info","time":1,"msg":"not at its end yet"}');
    expect(await take(readLog(path, { past: true }), all)).toEqual(["a", "b", "c"]);
    expect(await take(readLog(path, { past: false }), all)).toEqual([]);
    expect(await take(readLog(join(directory, "none"), { past: true }), all)).toEqual([]);
  });

  it("goes on through a file that appears, is rotated, or is cut short", async () => {
    const stop = new AbortController();
    const lines = readLog(path, { past: true, followUntilMs: all, signal: stop.signal });
    const first = take(lines, 1);
    write("a");
    expect(await first).toEqual(["a"]);
    const second = take(lines, 3);
    write("b");
    renameSync(path, olderLogFile(path));
    write("c", olderLogFile(path));
    const long = "d".repeat(200);
    write(long);
    expect(await second).toEqual(["b", "c", long]);
    truncateSync(path, 0);
    const third = take(lines, 1);
    write("e");
    expect(await third).toEqual(["e"]);
    const rest = take(lines, all);
    stop.abort();
    expect(await rest).toEqual([]);
  });

  it("ends by itself at its time, with the last line", async () => {
    const lines = take(readLog(path, { past: true, followUntilMs: Date.now() + 300 }), all);
    write("a");
    expect(await lines).toEqual(["a"]);
  });
});
