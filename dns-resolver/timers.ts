/** A callback that is due at some time, unless it is cancelled. */
export interface Timer {
  cancel(): void;
}

interface Entry {
  readonly atMs: number;
  run: (() => void) | undefined;
}

/** Callbacks by the time at which they are due: a binary heap. What is cancelled stays until its time has come. */
export class Timers {
  readonly #heap: Entry[] = [];

  at(atMs: number, run: () => void): Timer {
    const entry: Entry = { atMs, run };
    const heap = this.#heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (!above || above.atMs <= atMs) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = entry;
    return {
      cancel: () => {
        entry.run = undefined;
      },
    };
  }

  /** When the next is due; undefined where there is none. */
  get nextMs(): number | undefined {
    while (this.#heap[0] && !this.#heap[0].run) this.#pop();
    return this.#heap[0]?.atMs;
  }

  /** Runs all that are due. One that throws keeps no other from running. */
  runDue(nowMs: number, onError: (error: unknown) => void): void {
    for (;;) {
      const next = this.nextMs;
      if (next === undefined || next > nowMs) return;
      const { run } = this.#pop() ?? {};
      try {
        run?.();
      } catch (error) {
        onError(error);
      }
    }
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (!top || !last || top === last) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      const left = heap[child];
      if (!left) break;
      const right = heap[child + 1];
      if (right && right.atMs < left.atMs) child += 1;
      const smaller = heap[child];
      if (!smaller || smaller.atMs >= last.atMs) break;
      heap[index] = smaller;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}
