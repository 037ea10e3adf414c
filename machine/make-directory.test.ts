import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeDirectory } from "./make-directory.ts";

test("makes what is missing and says where it began", () => {
  const root = mkdtempSync(join(tmpdir(), "netctl-directory-"));
  try {
    chmodSync(root, 0o755);
    expect(makeDirectory(join(root, "a/b/c"), 0o700)).toBe(join(root, "a"));
    expect(statSync(join(root, "a/b/c")).mode & 0o777).toBe(0o700);
    expect(makeDirectory(join(root, "a/b/c"), 0o700)).toBeUndefined();
    expect(makeDirectory(join(root, "a/b/d"), 0o700)).toBe(join(root, "a/b/d"));
    writeFileSync(join(root, "file"), "");
    expect(() => makeDirectory(join(root, "file/x"), 0o700)).toThrow("ENOTDIR");
  } finally {
    rmSync(root, { recursive: true });
  }
});

test("gives up where the kernel makes none", () => {
  expect(() => makeDirectory("/proc/self/a/b", 0o700)).toThrow("ENOENT");
});
