/** What takes longer than this is waited for on a thread of the pool the next times. */
const slowMs = 1;

/** How many times, before it is tried in place again. */
const callsOnPool = 100;

/**
 * A system call that is over in a tenth of a millisecond as a rule, and sometimes waits for somebody else: fsync(2) on a
 * busy disk, a commit while another program holds the ruleset. To hand such a call to a thread takes longer than the
 * call, to make it in place could hold up everything else; so it is made in place as long as that has gone well.
 */
export class BlockingCall {
  #turnsOnPool = 0;

  /** Both do the same: `inPlace` blocks the caller, `onPool` a thread. Fails as they do. */
  async run<Value>(inPlace: () => Value, onPool: () => Promise<Value>): Promise<Value> {
    if (this.#turnsOnPool > 0) {
      this.#turnsOnPool--;
      return await onPool();
    }
    const startMs = performance.now();
    try {
      return inPlace();
    } finally {
      if (performance.now() - startMs > slowMs) this.#turnsOnPool = callsOnPool;
    }
  }
}
