import { patience } from "./patience.ts";
import type { TestNamespace } from "./test-namespace.ts";

/** Sends one echo request. @param as the address to send it from, if that matters */
function isAnsweredWithin(seconds: number, from: TestNamespace, to: string, as?: string): boolean {
  const source = as === undefined ? "" : `-I ${as}`;
  const text = from.run(`ping -n -c1 -W${seconds * patience} ${source} ${to} 2>&1 || true`);
  return text.includes(" 0% packet loss");
}

/** Whether one echo request is answered: for where it has to be, since a busy machine takes its time. */
export function isAnswered(from: TestNamespace, to: string, as?: string): boolean {
  return isAnsweredWithin(10, from, to, as);
}

/** Whether one echo request stays without an answer for a second, or can't even be sent. */
export function isSilent(from: TestNamespace, to: string, as?: string): boolean {
  return !isAnsweredWithin(1, from, to, as);
}
