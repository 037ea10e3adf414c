import type { Response } from "#dns-resolver/wire/response.ts";

/** An answer of a server, for all that ask the same of the same servers. */
export interface Cached {
  readonly response: Response;
  readonly server: string;
  readonly bornMs: number;
  readonly untilMs: number;
}

interface Limits {
  readonly maxBytes: number;
}

/** What an entry takes besides its message: key, objects, places in two tables. */
const overheadBytes = 400;

/**
 * Answers by question, the longest unused of which make room for new ones. What has been asked for once only makes room
 * first, so that a million names that nobody asks for twice push nothing else out.
 */
export class ResponseCache {
  readonly #maxBytes: number;
  /** Both in the order of use. */
  readonly #once = new Map<string, Cached>();
  readonly #often = new Map<string, Cached>();
  #onceBytes = 0;
  #oftenBytes = 0;

  constructor({ maxBytes }: Limits) {
    this.#maxBytes = maxBytes;
  }

  get size(): number {
    return this.#once.size + this.#often.size;
  }

  get bytes(): number {
    return this.#onceBytes + this.#oftenBytes;
  }

  find(key: string, nowMs: number): Cached | undefined {
    const known = this.#often.get(key);
    if (known) {
      this.#often.delete(key);
      if (known.untilMs > nowMs) {
        this.#often.set(key, known);
        return known;
      }
      this.#oftenBytes -= cost(key, known);
      return undefined;
    }
    const fresh = this.#once.get(key);
    if (!fresh) return undefined;
    this.#once.delete(key);
    this.#onceBytes -= cost(key, fresh);
    if (fresh.untilMs <= nowMs) return undefined;
    this.#often.set(key, fresh);
    this.#oftenBytes += cost(key, fresh);
    this.#shrink();
    return fresh;
  }

  put(key: string, cached: Cached): void {
    this.#drop(key);
    this.#once.set(key, cached);
    this.#onceBytes += cost(key, cached);
    this.#shrink();
  }

  /** What is left of it is of no use any more: the servers are others. */
  dropGroup(groupKey: string): void {
    const prefix = `${groupKey}\n`;
    for (const table of [this.#once, this.#often])
      for (const key of table.keys()) if (key.startsWith(prefix)) this.#drop(key);
  }

  #drop(key: string): void {
    const once = this.#once.get(key);
    if (once && this.#once.delete(key)) this.#onceBytes -= cost(key, once);
    const often = this.#often.get(key);
    if (often && this.#often.delete(key)) this.#oftenBytes -= cost(key, often);
  }

  /** Some at once: to find the first of a Map from which others were deleted takes the longer the more of them there were. */
  #shrink(): void {
    if (this.bytes <= this.#maxBytes) return;
    const enough = this.#maxBytes - this.#maxBytes / 32;
    // A fifth for what is new; the rest for what has proved itself.
    for (const [table, least] of [
      [this.#once, this.#maxBytes / 5],
      [this.#often, 0],
      [this.#once, 0],
    ] as const) {
      for (const key of table.keys()) {
        if (this.bytes <= enough || (table === this.#once && this.#onceBytes <= least)) break;
        this.#drop(key);
      }
    }
  }
}

function cost(key: string, { response }: Cached): number {
  return key.length + response.bytes.length + 8 * response.ttlOffsets.length + overheadBytes;
}
