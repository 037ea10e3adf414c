/** What takes longer than this is waited for on a thread of the pool from then on. */
const slowMs = 1;

/** How much longer than a slow call the time is until one is made in place again. */
const pauseFactor = 50;

/**
 * A system call that is over in a tenth of a millisecond as a rule, and sometimes waits for somebody else: fsync(2) on a
 * busy disk, a commit while another program holds the ruleset. To hand such a call to a thread takes longer than the
 * call, to make it in place could hold up everything else; so it is made in place as long as that goes well, and after a
 * slow one again so late that slow calls take two per cent of the time at most.
 */
export class BlockingCall {
  readonly #nowMs: () => number;
  #onPoolUntilMs = 0;

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
      const tookMs = endMs - startMs;
      if (tookMs > slowMs) this.#onPoolUntilMs = endMs + pauseFactor * tookMs;
    }
  }
}
