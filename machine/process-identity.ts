import { readFileSync } from "node:fs";

/** A process that can be told from a later one with the same pid. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Ticks from boot to its start: field 22 of /proc/PID/stat (proc(5)). */
  readonly startTicks: number;
}

/** Reads /proc/PID/stat; `undefined` if there is no such process, or only its zombie is left. */
export function readProcessIdentity(pid: number | "self"): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    // ENOENT, or ESRCH where it ended between open and read.
    return undefined;
  }
  // Field 2 is the program's name in parentheses and may hold blanks and parentheses.
  const afterName = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = afterName[0];
  if (state === "Z" || state === "X") return undefined;
  return { pid: Number.parseInt(stat, 10), startTicks: Number(afterName[22 - 3]) };
}

/** True if that very process still runs. */
export function isRunning(process: ProcessIdentity): boolean {
  return readProcessIdentity(process.pid)?.startTicks === process.startTicks;
}
