import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestNamespace } from "#testing/test-namespace.ts";
import { identifyNamespace } from "./namespace-identity.ts";

let namespace: TestNamespace;
let directory: string;
beforeAll(() => {
  namespace = TestNamespace.create("identity");
  directory = mkdtempSync(join(tmpdir(), "netctl-identity-"));
});
afterAll(() => {
  namespace.remove();
  rmSync(directory, { recursive: true });
});

it("identifyNamespace() gives device and inode of a bind mount, as `ip netns add` and runtimes make it", () => {
  const { dev, ino } = statSync(namespace.path);
  expect(identifyNamespace(namespace.path)).toEqual({ dev, ino });
  expect(identifyNamespace("/proc/self/ns/net")).not.toEqual({ dev, ino });
});

it("identifyNamespace() calls a namespace of another kind invalid, mounted or not", () => {
  const file = join(directory, "uts");
  writeFileSync(file, "");
  expect(identifyNamespace("/proc/self/ns/uts")).toBe("invalid");
  execFileSync("mount", ["--bind", "/proc/self/ns/uts", file]);
  try {
    expect(identifyNamespace(file)).toBe("invalid");
  } finally {
    execFileSync("umount", [file]);
  }
  expect(identifyNamespace(file)).toBe("invalid");
});

it("identifyNamespace() calls a path with nothing at it missing", () => {
  expect(identifyNamespace(join(directory, "none"))).toBe("missing");
  expect(identifyNamespace("/proc/4194304/ns/net")).toBe("missing");
});
