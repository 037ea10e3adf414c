import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** So much more than after the last collection is worth one: fifteen to thirty milliseconds. */
const growthBytes = 6 * 1024 * 1024;
/** And not more often than this, however much is thrown away. */
const pauseMs = 10_000;

/**
 * Gives back what was thrown away while nothing is going on. V8 collects by what is allocated: a netd that has compared
 * a thousand hosts and waits would keep the garbage of that, more than all that it knows, until it is busy again.
 */
export class HeapKeeper {
  #leastBytes = usedBytes();
  #collectedAtMs = performance.now();

  /** To be called every second or so while nobody waits for anything. */
  tick(): void {
    const used = usedBytes();
    this.#leastBytes = Math.min(this.#leastBytes, used);
    if (used < this.#leastBytes + growthBytes || performance.now() < this.#collectedAtMs + pauseMs) return;
    collectGarbage();
    this.#leastBytes = usedBytes();
    this.#collectedAtMs = performance.now();
  }
}

function usedBytes(): number {
  return getHeapStatistics().used_heap_size;
}

let collect: (() => void) | undefined;

function collectGarbage(): void {
  if (!collect) {
    // Taken back at once: with another flag than when it was made, V8 would reject the resolver's code cache.
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
    setFlagsFromString("--no-expose-gc");
  }
  collect();
}
