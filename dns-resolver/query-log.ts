import type { Asker } from "./asker.ts";
import type { Outcome, Source } from "./chain.ts";
import { rcodeName, typeName } from "./wire/numbers.ts";
import type { Query } from "./wire/query.ts";

/** One answered query, or something that an operator wants to know. */
export interface LogEntry {
  readonly sequence: number;
  /** Milliseconds since 1970. */
  readonly timeMs: number;
  readonly containerId: string;
  readonly name: string;
  readonly type: string;
  readonly rcode: string;
  readonly ms: number;
  readonly source: Source;
}

const maxEntries = 2000;
/** How long after somebody has read it every query is still logged. */
const followedMs = 10_000;

/**
 * The last queries, in memory. As long as nobody reads them only those that failed are kept: to write down each would
 * take longer than to answer it.
 */
export class QueryLog {
  readonly #entries: LogEntry[] = [];
  #sequence = 0;
  #followedUntilMs = 0;
  #isFollowed = false;
  readonly #onFollowed: (isFollowed: boolean) => void;

  /** @param onFollowed told when somebody begins or ends to read it: meanwhile it wants to hear of every query */
  constructor(onFollowed: (isFollowed: boolean) => void) {
    this.#onFollowed = onFollowed;
  }

  add(asker: Asker, query: Query, outcome: Outcome, startedMs: number, nowMs: number): void {
    const isFailure = outcome.source.kind === "failure";
    if (isFailure) asker.load.failures += 1;
    if (this.#isFollowed && nowMs > this.#followedUntilMs) this.#follow(false);
    if (!isFailure && !this.#isFollowed) return;
    if (this.#entries.length >= maxEntries) this.#entries.splice(0, maxEntries / 10);
    this.#entries.push({
      sequence: ++this.#sequence,
      timeMs: Date.now(),
      containerId: asker.containerId,
      name: query.name,
      type: typeName(query.type),
      rcode: rcodeName(outcome.rcode),
      ms: Math.round((nowMs - startedMs) * 10) / 10,
      source: outcome.source,
    });
  }

  /** Entries after `sequence`; from now on all queries are logged for ten seconds. */
  read(sequence: number, nowMs: number): readonly LogEntry[] {
    this.#follow(true);
    this.#followedUntilMs = nowMs + followedMs;
    return this.#entries.filter((entry) => entry.sequence > sequence);
  }

  #follow(isFollowed: boolean): void {
    if (isFollowed !== this.#isFollowed) this.#onFollowed(isFollowed);
    this.#isFollowed = isFollowed;
  }
}
