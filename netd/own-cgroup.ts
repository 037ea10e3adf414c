import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorCode } from "#machine/io-error.ts";

const busTimeoutMs = 5_000;

export interface OwnCgroupOptions {
  /** A cgroup directory, made if missing; "none"; or undefined, which leaves it to systemd where that runs. */
  readonly asked?: string | undefined;
  readonly pid: number;
  /** Without a suffix: of the transient scope. */
  readonly unitName: string;
}

/**
 * Leaves the cgroup of the runtime whose call happened to start this process, so that it is neither counted nor
 * killed with it. Only systemd may make groups in a tree that systemd manages, so it is asked for a scope (as
 * `systemd-run --scope` does); elsewhere there is no place that is anybody's to take, but for one that was named.
 * @returns where the process is now, or undefined where nothing was to be done
 * @throws Error; all goes on as well where this fails
 */
export async function moveToOwnCgroup({
  asked,
  pid,
  unitName,
}: OwnCgroupOptions): Promise<string | undefined> {
  if (asked === "none") return undefined;
  if (asked !== undefined && asked !== "") {
    makeGroup(asked);
    writeFileSync(join(asked, "cgroup.procs"), `${pid}\n`);
    return asked;
  }
  // sd_booted(3)
  if (process.getuid?.() !== 0 || !existsSync("/run/systemd/system")) return undefined;
  const unit = `${unitName}.scope`;
  // That of the netd whose place this one takes.
  if (readFileSync("/proc/self/cgroup", "utf8").trimEnd().endsWith(`/${unit}`)) return undefined;
  const { execFile } = await import("node:child_process");
  const { promisify } = await import("node:util");
  await promisify(execFile)("busctl", scopeCall(unit, pid), { timeout: busTimeoutMs });
  return unit;
}

/** StartTransientUnit(name, mode, properties, aux): org.freedesktop.systemd1(5) */
export function scopeCall(unit: string, pid: number): readonly string[] {
  const manager = [
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
  ];
  const properties = ["2", "PIDs", "au", "1", String(pid), "Description", "s", "netctl's warm service"];
  return ["call", ...manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", ...properties, "0"];
}

function makeGroup(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
  }
}
