import type { Outcome } from "./chain.ts";
import { ageTtls } from "./wire/response.ts";

/** An encoded answer, but for its id. */
export interface KeptAnswer {
  readonly variants: readonly Uint8Array[];
  readonly untilMs: number;
  readonly ttlOffsets: readonly number[];
  readonly bornMs: number;
  next: number;
  agedSeconds: number;
}

/** A container that asks a million names throws its own answers out, and those of its like, nobody else's. */
const maxPerTable = 4096;

/**
 * Answers by the bytes of the query behind its id: the same bytes in the same place get the same answer. It is looked
 * at before anything of a query is understood.
 */
export class AnswerTable {
  readonly #answers = new Map<string, KeptAnswer>();
  #generation = 0;

  /** Another one after each `clear()`. */
  get generation(): number {
    return this.#generation;
  }

  /** Undefined where there is none that still holds. */
  find(key: string, nowMs: number): KeptAnswer | undefined {
    const found = this.#answers.get(key);
    if (found === undefined) return undefined;
    if (found.untilMs > nowMs) return found;
    this.#answers.delete(key);
    return undefined;
  }

  /**
   * @param generation when the query came: what was found out since then by names that have changed is of no use
   */
  keep(key: string, kept: NonNullable<Outcome["keep"]>, generation: number): void {
    if (generation !== this.#generation) return;
    const { untilMs, variants, ttlOffsets, bornMs } = kept;
    if (this.#answers.size >= maxPerTable) this.#answers.clear();
    this.#answers.set(key, { variants, untilMs, ttlOffsets, bornMs, next: 0, agedSeconds: 0 });
  }

  get size(): number {
    return this.#answers.size;
  }

  clear(): void {
    this.#generation += 1;
    this.#answers.clear();
  }
}

/** The message to send now: another order each time, TTLs as old as they are. */
export function nextVariant(kept: KeptAnswer, nowMs: number): Uint8Array {
  const { variants, ttlOffsets } = kept;
  const index = kept.next;
  kept.next = index + 1 < variants.length ? index + 1 : 0;
  if (ttlOffsets.length > 0) {
    const age = Math.floor((nowMs - kept.bornMs) / 1000);
    if (age > kept.agedSeconds) {
      for (const each of variants) ageTtls(each, ttlOffsets, age - kept.agedSeconds);
      kept.agedSeconds = age;
    }
  }
  return variants[index] ?? (variants[0] as Uint8Array);
}
