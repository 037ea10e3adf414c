import { uptime } from "node:os";

/** Seconds since the machine's start: no change of the clock moves it, and all processes agree. */
export function secondsSinceBoot(): number {
  return uptime();
}
