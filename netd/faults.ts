import { setTimeout as sleep } from "node:timers/promises";
import { fail } from "#cni/skel.ts";
import type { RequestServer } from "./server.ts";

/** What a request needs that was not hurt. */
const graceMs = 200;
const limitMs = 5_000;
const pauseMs = 20;

/**
 * Ends a netd in which something was thrown that nobody caught. Which request that was of, and whether its promise
 * will ever settle, cannot be known; but it may hold locks. So no request is taken any more, those that run may end,
 * and the one for each fault that does not is answered with the fault. When this returns the process should exit:
 * the kernel drops the locks, and the journal has what is needed to clean up.
 * @param faults how many there were so far
 */
export async function endAfterFault(
  server: RequestServer,
  error: unknown,
  faults: () => number,
): Promise<void> {
  const startMs = performance.now();
  const passedMs = () => performance.now() - startMs;
  server.refuse();
  while (server.active > 0 && passedMs() < limitMs && (passedMs() < graceMs || server.active > faults())) {
    await sleep(pauseMs);
  }
  await server.abandon(fail(error));
}
