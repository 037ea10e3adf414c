/** What takes longer than this is waited for on a thread of the pool from then on. */
const slowMs = 1;

/** When it is tried in place again: after a slow call, and after another one, and so on. */
const firstPauseMs = 60_000;
const longestPauseMs = 3_600_000;

/**
 * A system call that is over in a tenth of a millisecond as a rule, and sometimes waits for somebody else: fsync(2) on a
 * busy disk, a commit while another program holds the ruleset. To hand such a call to a thread takes longer than the
 * call, to make it in place could hold up everything else; so it is made in place as long as that goes well.
 */
export class BlockingCall {
  readonly #nowMs: () => number;
  #onPoolUntilMs = 0;
  #pauseMs = firstPauseMs;

  /** @param nowMs a clock that never goes back */
  constructor(nowMs: () => number = () => Number(process.hrtime.bigint()) / 1e6) {
    this.#nowMs = nowMs;
  }

  /** Both do the same: `inPlace` blocks the caller, `onPool` a thread. Fails as they do. */
  async run<Value>(inPlace: () => Value, onPool: () => Promise<Value>): Promise<Value> {
    const startMs = this.#nowMs();
    if (startMs < this.#onPoolUntilMs) return await onPool();
    try {
      return inPlace();
    } finally {
      const endMs = this.#nowMs();
      const isSlow = endMs - startMs > slowMs;
      if (isSlow) this.#onPoolUntilMs = endMs + this.#pauseMs;
      this.#pauseMs = isSlow ? Math.min(2 * this.#pauseMs, longestPauseMs) : firstPauseMs;
    }
  }
}
