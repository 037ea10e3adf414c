import { setTimeout as sleep } from "node:timers/promises";

/** Waits between two looks. @returns false once the operator asks to stop */
export async function rest(ms: number, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
    return true;
  } catch {
    return false;
  }
}
