import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Not more often than this, however much is thrown away; nor sooner after a start. */
const pauseMs = 10_000;

/**
 * Gives back what was thrown away while nothing is going on. V8 collects by what is allocated, and what it has once
 * taken it keeps in pages that are full of holes: a netd that has taken in thirty thousand names and waits would keep
 * three times what it knows. So here pages are emptied into others. One for each thread, which has a heap of its own.
 */
export class HeapKeeper {
  readonly #wasteBytes: number;
  readonly #collected: () => void;
  /** The least that was in use since the last time; at first nothing, as what a start leaves behind is worth it. */
  #leastBytes = 0;
  /** What was free right after the last time: no collection gives that back. */
  #spareBytes = 0;
  #collectedAtMs = performance.now();

  /**
   * @param wasteBytes that the heap takes so much more than is in use is worth one: some tens of milliseconds of this
   * thread
   * @param collected called after each
   */
  constructor(wasteBytes: number, collected: () => void = () => undefined) {
    this.#wasteBytes = wasteBytes;
    this.#collected = collected;
  }

  /** To be called every second or so while nobody waits for anything. */
  tick(): void {
    const { total_heap_size: bytes, used_heap_size: used } = getHeapStatistics();
    // What is thrown away counts as used until V8 has looked. What was there once and is more now may be garbage.
    this.#leastBytes = Math.min(this.#leastBytes, used);
    const waste = bytes - this.#leastBytes - this.#spareBytes;
    if (waste < this.#wasteBytes || performance.now() < this.#collectedAtMs + pauseMs) return;
    collectGarbage();
    this.#collected();
    const left = getHeapStatistics();
    this.#leastBytes = left.used_heap_size;
    this.#spareBytes = left.total_heap_size - left.used_heap_size;
    this.#collectedAtMs = performance.now();
  }
}

let collect: (() => void) | undefined;

function collectGarbage(): void {
  if (!collect) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
    setFlagsFromString("--no-expose-gc");
  }
  // Taken back at once: with other flags than when it was made, V8 would reject the resolver's code cache.
  setFlagsFromString("--compact-on-every-full-gc");
  try {
    collect();
  } finally {
    setFlagsFromString("--no-compact-on-every-full-gc");
  }
}
