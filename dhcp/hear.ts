import { setTimeout as sleep } from "node:timers/promises";
import { DhcpError } from "./error.ts";
import type { Port } from "./port.ts";

/** A server answers within milliseconds, or takes its time. */
const [shortestPauseMs, longestPauseMs] = [5, 25];

/**
 * Waits for an answer.
 * @param read undefined for what is no answer to what was asked
 * @returns undefined where none comes in time
 */
export async function hear<Answer>(
  port: Port,
  read: (bytes: Uint8Array) => Answer | undefined,
  { untilMs, signal }: { readonly untilMs: number; readonly signal?: AbortSignal | undefined },
): Promise<Answer | undefined> {
  for (let pauseMs: number = shortestPauseMs; ; pauseMs = Math.min(pauseMs * 1.1, longestPauseMs)) {
    for (let bytes = port.receive(); bytes; bytes = port.receive()) {
      const answer = read(bytes);
      if (answer !== undefined) return answer;
    }
    const leftMs = untilMs - performance.now();
    if (leftMs <= 0) return undefined;
    await sleep(Math.min(pauseMs, leftMs), undefined, signal ? { signal } : {});
  }
}

/** @throws {DhcpError} */
export function say(port: Port, bytes: Uint8Array): void {
  try {
    port.send(bytes);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new DhcpError(`the link takes no packets: ${why}`, { cause });
  }
}

/** What was heard of servers, for the error that ends an exchange in vain. */
export class Heard {
  /** What is sent until a server offers something: "DISCOVER" */
  readonly #question: string;
  #questions = 0;
  #offers = 0;
  /** Why the last offer came to nothing. */
  refusal: string | undefined;

  constructor(question: string) {
    this.#question = question;
  }

  asked(): void {
    this.#questions++;
  }

  offered(): void {
    this.#offers++;
  }

  inVain(timeoutMs: number): DhcpError {
    const seconds = Math.round(timeoutMs / 100) / 10;
    const why =
      this.refusal ??
      (this.#offers === 0 ? "no server answered" : `${this.#offers} offers came, and no acknowledgement`);
    return new DhcpError(`${why} (${this.#questions} ${this.#question} sent in ${seconds} s)`);
  }
}
