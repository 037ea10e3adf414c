import { patience } from "./patience.ts";
import type { TestNamespace } from "./test-namespace.ts";

/** Sends one echo request, and waits a second for its answer. @param as the address to send it from, if that matters */
function ping(from: TestNamespace, to: string, as?: string): boolean {
  const source = as === undefined ? "" : `-I ${as}`;
  const text = from.run(`ping -n -c1 -W${patience} ${source} ${to} 2>&1 || true`);
  return text.includes(" 0% packet loss");
}

/**
 * Whether an echo request is answered: for where one has to be. Asks again for ten seconds: an IPv6 address hears nobody
 * before a work queue of the kernel has had its turn, which takes seconds on a machine that makes and removes many links.
 */
export function isAnswered(from: TestNamespace, to: string, as?: string): boolean {
  for (const deadlineMs = performance.now() + 10_000 * patience; ; ) {
    if (ping(from, to, as)) return true;
    if (performance.now() > deadlineMs) return false;
  }
}

/** Whether one echo request stays without an answer, or can't even be sent: for where it has to. */
export function isSilent(from: TestNamespace, to: string, as?: string): boolean {
  return !ping(from, to, as);
}
