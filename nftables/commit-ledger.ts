/** After so many that nobody has asked about it is as good as a loss. */
const mostKept = 10_000;

/**
 * Accounts for the commits of a ruleset: each has a number, one more than the last, and is either told by a notification
 * or one's own. So a number of which nobody has heard is a change that went by unnoticed, and it costs one question to
 * the kernel to know that there is none.
 */
export class CommitLedger {
  /** Up to here all is accounted for; undefined where the next question begins anew. */
  #base: number | undefined;
  readonly #heard = new Set<number>();
  /** A number that was missing when it was asked for last: its notification may have been on the way. */
  #suspect: number | undefined;

  /** @param generation of a commit that was told, or is one's own */
  hear(generation: number): void {
    if (this.#heard.size < mostKept) this.#heard.add(generation);
  }

  /** Of what has been until now nothing is to be said any more: all of it is looked at anyhow. */
  restart(): void {
    this.#base = undefined;
    this.#suspect = undefined;
    this.#heard.clear();
  }

  /**
   * To be asked every second or so. True once for what is still unheard of when it is asked for the second time.
   * @param generation the ruleset's number now
   */
  hasMissed(generation: number): boolean {
    const unheard = this.#firstUnheard(generation);
    const isMissed = unheard !== undefined && unheard === this.#suspect;
    if (unheard === undefined || isMissed) {
      this.restart();
      this.#base = generation;
    } else {
      this.#suspect = unheard;
    }
    return isMissed;
  }

  #firstUnheard(generation: number): number | undefined {
    if (this.#base === undefined) return undefined;
    // The kernel's counter has come round: whatever the number, it will be asked for again.
    if (generation < this.#base) return this.#base;
    for (let each = this.#base + 1; each <= generation; each++) if (!this.#heard.has(each)) return each;
    return undefined;
  }
}
