import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { identifyNamespace } from "./namespace-identity.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-namespace-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const own = "/proc/self/ns/net";

test("finds the same namespace by every path to it", () => {
  const { dev, ino } = statSync(own);
  const link = join(directory, "link");
  symlinkSync(own, link);
  for (const path of [own, link, `/proc/${process.pid}/ns/net`])
    expect(identifyNamespace(path)).toEqual({ dev, ino });
});

test.each([
  ["a path with nothing there", () => join(directory, "none"), "missing"],
  [
    "a link to nothing",
    () => (symlinkSync("/nonexistent", join(directory, "l")), join(directory, "l")),
    "missing",
  ],
  ["a process that has ended", () => "/proc/4194305/ns/net", "missing"],
  ["a file as directory", () => "/etc/hostname/x", "missing"],
  ["a file", () => (writeFileSync(join(directory, "f"), ""), join(directory, "f")), "invalid"],
  ["a directory", () => directory, "invalid"],
  [
    "a fifo, without waiting for it",
    () => (execFileSync("mkfifo", [join(directory, "p")]), join(directory, "p")),
    "invalid",
  ],
  ["a namespace of another kind", () => "/proc/self/ns/mnt", "invalid"],
  ["text with a zero byte", () => "/proc/self/ns/net\0", "invalid"],
  ["a name too long", () => `/${"x".repeat(300)}`, "invalid"],
  ["no path", () => "", "missing"],
])("%s is told apart", (_name, path, expected) => {
  expect(identifyNamespace(path())).toBe(expected);
});
