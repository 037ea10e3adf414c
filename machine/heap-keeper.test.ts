import { getHeapSpaceStatistics, getHeapStatistics } from "node:v8";
import { afterEach, beforeEach, expect, test } from "vitest";
import { HeapKeeper } from "./heap-keeper.ts";

let nowMs = performance.now();
const clock = performance.now.bind(performance);
beforeEach(() => {
  performance.now = () => nowMs;
});
afterEach(() => {
  performance.now = clock;
});
const megabyte = 1024 * 1024;

test("what was thrown away is collected, though nothing more is allocated", () => {
  const keeper = new HeapKeeper(6 * megabyte);
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
});

test("of pages that are full of holes few are left", () => {
  const keeper = new HeapKeeper(6 * megabyte);
  const holes = () => {
    const old = getHeapSpaceStatistics().find(({ space_name: name }) => name === "old_space");
    return (old?.space_size ?? 0) - (old?.space_used_size ?? 0);
  };
  nowMs += 11_000;
  keeper.tick();
  const before = holes();
  let items: unknown[] = Array.from({ length: 600_000 }, (_, index) => ({ index, more: [index, index + 1] }));
  // Of each page something is kept.
  const kept = items.filter((_, index) => index % 40 === 0);
  items = [];
  nowMs += 11_000;
  keeper.tick();
  expect(kept.length + items.length).toBe(15_000);
  expect(holes() - before).toBeLessThan(8 * megabyte);
});

test("what has not grown since is let alone", () => {
  let collections = 0;
  const keeper = new HeapKeeper(6 * megabyte, () => collections++);
  for (let count = 0; count < 3; count++) {
    nowMs += 11_000;
    keeper.tick();
  }
  expect(collections).toBe(1);
});
