import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LockOperation, native } from "#native/addon.ts";
import { ServiceLock } from "./service-lock.ts";

let directory: string;
let path: string;
const opened: number[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-lock-"));
  path = join(directory, "lock");
});
afterEach(() => {
  for (const fd of opened.splice(0)) closeSync(fd);
  rmSync(directory, { recursive: true });
});

/** As a launcher has it, before it becomes netd. */
function openLock(file = path): number {
  const fd = openSync(file, "a+");
  opened.push(fd);
  return fd;
}

describe("ServiceLock", () => {
  it("is had by one", () => {
    expect(ServiceLock.take(path)).toBeDefined();
    expect(ServiceLock.take(path)).toBeUndefined();
  });

  it("is what the launcher hands over", () => {
    const fd = openLock();
    expect(native().flock(fd, LockOperation.Exclusive)).toBe(true);
    expect(ServiceLock.take(path)).toBeUndefined();
    expect(ServiceLock.take(path, fd)).toBeDefined();
  });

  it("is not what only has its number: another file, or nothing", () => {
    const fd = openLock(join(directory, "other"));
    expect(ServiceLock.take(path, fd)).toBeDefined();
    expect(ServiceLock.take(path, fd)).toBeUndefined();
    expect(ServiceLock.take(join(directory, "third"), 9999)).toBeDefined();
  });

  it("is not had by who holds a descriptor of it alone", () => {
    expect(ServiceLock.take(path)).toBeDefined();
    // Closed where it is refused.
    expect(ServiceLock.take(path, openSync(path, "r+"))).toBeUndefined();
  });

  it("says who it is, in place of what the launcher wrote", () => {
    writeFileSync(path, "starting\n");
    ServiceLock.take(path)?.markReady(42);
    expect(readFileSync(path, "utf8")).toBe("42\n");
  });

  it("says why nothing came of it, and lets launchers wait as they do for one that starts", () => {
    ServiceLock.take(path)?.markFailed("no room");
    expect(readFileSync(path, "utf8")).toBe("starting\nno room\n");
  });

  it("is no link: what it leads to would be written to", () => {
    const precious = join(directory, "precious");
    writeFileSync(precious, "precious");
    symlinkSync(precious, path);
    expect(() => ServiceLock.take(path)).toThrow(`Cannot open lock file "${path}"`);
    expect(readFileSync(precious, "utf8")).toBe("precious");
  });

  it("is waited for", async () => {
    const fd = openSync(path, "a+");
    native().flock(fd, LockOperation.Exclusive);
    const waiting = ServiceLock.wait(path);
    closeSync(fd);
    await waiting;
    expect(ServiceLock.take(path)).toBeUndefined();
  });
});
