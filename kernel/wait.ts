import { setTimeout as sleep, setImmediate as yieldOnce } from "node:timers/promises";

/** What was waited for did not come. */
export class WaitTimeoutError extends Error {
  constructor(what: string, timeoutMs: number) {
    super(`Waited ${timeoutMs} ms in vain for ${what}`);
    this.name = "WaitTimeoutError";
  }
}

/** Longest pause between two looks. */
const maxPauseMs = 50;
/** Where one look takes longer than all of the time there is: so many, at least. */
const leastLooks = 3;
/** How long to look without a pause: what the kernel does on a work queue is mostly done by then. */
const eagerMs = 0.5;

/**
 * Looks until there is something to be seen: at first without pauses, so that what comes in microseconds costs no
 * millisecond, then with growing ones. Not by netlink notification: to be sure of missing none, one has to subscribe before the change, which costs
 * every container a socket and a copy of everybody's notifications, for what the first look usually answers.
 * @param what as it reads after "waited for"
 * @throws {WaitTimeoutError}
 */
export async function waitUntil<Value>(
  what: string,
  look: () => Value | undefined,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<Value> {
  const { timeoutMs, signal } = options;
  let startMs: number | undefined;
  let looks = 0;
  for (let pauseMs = 1; ; ) {
    const value = look();
    looks++;
    if (value !== undefined) return value;
    // Not before the first look: in a process that never waits, the clock itself would take a millisecond to load.
    startMs ??= performance.now();
    const waitedMs = performance.now() - startMs;
    if (waitedMs >= timeoutMs && looks >= leastLooks) throw new WaitTimeoutError(what, timeoutMs);
    const options = signal ? { signal } : {};
    if (waitedMs < eagerMs) {
      await yieldOnce(undefined, options);
    } else {
      await sleep(pauseMs, undefined, options);
      pauseMs = Math.min(2 * pauseMs, maxPauseMs);
    }
  }
}
