import type { Change, Changes } from "./engine.ts";
import { CompactedError } from "./error.ts";

/** How many revisions can be looked back at. */
const kept = 10_000;

/** The last revisions of a store in this process, and who waits for the next one. */
export class History {
  readonly #past: Changes[] = [];
  #oldest: number;
  #waiting = new Set<() => void>();

  /** @param oldest the first revision that will be added */
  constructor(oldest: number) {
    this.#oldest = oldest;
  }

  add(changes: Changes): void {
    this.#past.push(changes);
    if (this.#past.length > kept) {
      this.#past.splice(0, this.#past.length - kept / 2);
      this.#oldest = this.#past[0]?.revision ?? changes.revision;
    }
    this.wake();
  }

  /** Whoever waits looks again. */
  wake(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const resume of waiting) resume();
  }

  /** @throws {CompactedError} */
  async *watch(prefix: string, from: number, signal: AbortSignal): AsyncGenerator<Changes> {
    let next = from;
    while (!signal.aborted) {
      if (next < this.#oldest) throw new CompactedError(this.#oldest);
      const first = this.#past.findIndex((one) => one.revision >= next);
      const fresh = first < 0 ? [] : this.#past.slice(first);
      const revision = fresh.at(-1)?.revision;
      if (revision === undefined) {
        await this.#nextChange(signal);
        continue;
      }
      next = revision + 1;
      const changes = fresh.flatMap((one) => one.changes).filter((change) => isBelow(prefix, change));
      if (changes.length > 0) yield { revision, changes };
    }
  }

  #nextChange(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const resume = () => {
        signal.removeEventListener("abort", resume);
        resolve();
      };
      this.#waiting.add(resume);
      signal.addEventListener("abort", resume, { once: true });
    });
  }
}

function isBelow(prefix: string, change: Change): boolean {
  return (change.kind === "put" ? change.entry.key : change.key).startsWith(prefix);
}
