import { spawn } from "node:child_process";
import { expect, test } from "vitest";
import { isRunning, readProcessIdentity } from "./process-identity.ts";

test("a process is itself as long as it runs", async () => {
  const self = readProcessIdentity("self");
  if (!self) throw new Error("no identity of this process");
  expect(self.pid).toBe(process.pid);
  expect(isRunning(self)).toBe(true);
  expect(isRunning({ ...self, startTicks: self.startTicks - 1 })).toBe(false);

  // A name with what separates the fields, as any program may have.
  const child = spawn("sh", ["-c", "printf 'a) R 1 (' > /proc/self/comm; echo; read end"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const other = readProcessIdentity(child.pid ?? 0);
  expect(other?.pid).toBe(child.pid);
  expect(other && isRunning(other)).toBe(true);
  child.stdin.end();
  await ended;
  expect(other && isRunning(other)).toBe(false);
  expect(readProcessIdentity(4_194_305)).toBeUndefined();
});
