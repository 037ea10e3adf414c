import { setTimeout as sleep } from "node:timers/promises";

/** What was waited for did not come. */
export class WaitTimeoutError extends Error {
  constructor(what: string, timeoutMs: number) {
    super(`Waited ${timeoutMs} ms in vain for ${what}`);
    this.name = "WaitTimeoutError";
  }
}

/** Longest pause between two looks. */
const maxPauseMs = 50;

/**
 * Looks until there is something to be seen. The first look often suffices, so it costs no pause; then the pauses
 * grow. Not by netlink notification: to be sure of missing none, one has to subscribe before the change, which costs
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
  const deadlineMs = performance.now() + timeoutMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(2 * pauseMs, maxPauseMs)) {
    const value = look();
    if (value !== undefined) return value;
    if (performance.now() >= deadlineMs) throw new WaitTimeoutError(what, timeoutMs);
    await sleep(pauseMs, undefined, signal ? { signal } : {});
  }
}
