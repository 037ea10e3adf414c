import { getHeapStatistics } from "node:v8";
import { expect, test } from "vitest";
import { HeapKeeper } from "./heap-keeper.ts";

test("what was thrown away is collected, though nothing more is allocated", () => {
  let nowMs = performance.now();
  const clock = performance.now.bind(performance);
  performance.now = () => nowMs;
  try {
    const keeper = new HeapKeeper();
    const used = () => getHeapStatistics().used_heap_size;
    const before = used();
    let garbage: unknown[] | undefined = Array.from({ length: 400_000 }, (_, index) => ({ index }));
    expect(garbage.length).toBe(400_000);
    garbage = undefined;
    expect(used() - before).toBeGreaterThan(10_000_000);
    keeper.tick();
    // Not at once: what is busy throws away much, and V8 sees to that itself.
    expect(used() - before).toBeGreaterThan(10_000_000);
    nowMs += 11_000;
    keeper.tick();
    expect(used() - before).toBeLessThan(8_000_000);
  } finally {
    performance.now = clock;
  }
});
