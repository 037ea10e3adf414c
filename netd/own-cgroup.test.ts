import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { moveToOwnCgroup, scopeCall } from "./own-cgroup.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-cgroup-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("moveToOwnCgroup()", () => {
  const unitName = "netctl-netd-1";

  it("writes the process into the group that was named, and makes that", async () => {
    // A directory in place of a control group: the machine's own are not for tests.
    const asked = join(directory, "netctl");
    expect(await moveToOwnCgroup({ asked, pid: 42, unitName })).toBe(asked);
    expect(readFileSync(join(asked, "cgroup.procs"), "utf8")).toBe("42\n");
    expect(await moveToOwnCgroup({ asked, pid: 43, unitName })).toBe(asked);
    expect(readFileSync(join(asked, "cgroup.procs"), "utf8")).toBe("43\n");
  });

  it("does nothing where that is asked for", async () => {
    expect(await moveToOwnCgroup({ asked: "none", pid: 42, unitName })).toBeUndefined();
    expect(readdirSync(directory)).toEqual([]);
  });

  it("says what failed", async () => {
    writeFileSync(join(directory, "file"), "");
    const asked = join(directory, "file/group");
    await expect(moveToOwnCgroup({ asked, pid: 42, unitName })).rejects.toThrow("ENOTDIR");
  });
});

it("scopeCall() has the arguments in the order of their types", () => {
  const [signature, ...values] = scopeCall("netctl-netd-1.scope", 42).slice(5);
  // Name, mode; two properties, each with its type; no auxiliary units.
  expect(signature).toBe("ssa(sv)a(sa(sv))");
  expect(values.join(" ")).toBe(
    "netctl-netd-1.scope fail 2 PIDs au 1 42 Description s netctl's warm service 0",
  );
});
