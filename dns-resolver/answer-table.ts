import { type Answers, native } from "#native/addon.ts";
import type { Outcome } from "./chain.ts";
import type { EventLoop } from "./event-loop.ts";

/** Longer queries are of no usual client, and would be keys of a length that nobody else decides. */
const maxKeyBytes = 320;
const idBytes = 2;

/**
 * Answers by the bytes of the query behind its id: the same bytes in the same place get the same answer. It is looked
 * at before anything of a query is understood, where the datagram is read (native/answers.inc.c).
 */
export class AnswerTable {
  readonly answers: Answers;
  readonly #loop: EventLoop;
  #generation = 0;

  constructor(loop: EventLoop) {
    this.#loop = loop;
    this.answers = loop.createAnswers();
  }

  /** Another one after each `clear()`. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * @param query as it came
   * @param generation when it came: what was found out since then by names that have changed is of no use
   */
  keep(query: Uint8Array, kept: NonNullable<Outcome["keep"]>, generation: number): void {
    if (generation !== this.#generation || query.length - idBytes > maxKeyBytes) return;
    const { untilMs, variants, ttlOffsets, bornMs } = kept;
    const { nowMs } = this.#loop;
    const [only] = variants;
    native().answersKeep(
      this.answers,
      query.subarray(idBytes),
      Math.max(untilMs - nowMs, 0),
      ttlOffsets.length > 0 ? Math.max(nowMs - bornMs, 0) : 0,
      variants.length === 1 && only ? only : Buffer.concat(variants),
      Int32Array.from(variants, ({ length }) => length),
      Int32Array.from(ttlOffsets),
    );
  }

  clear(): void {
    this.#generation += 1;
    native().answersClear(this.answers);
  }
}
