import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Change } from "#engine/engine.ts";
import { HeldDeletions } from "./held-deletions.ts";
import { Keys } from "./keys.ts";

const keys = new Keys("default");
const gone = (key: string): Change => ({ kind: "delete", key, revision: 7 });
const put = (key: string): Change => ({ kind: "put", entry: { key, value: "{}", revision: 8 } });

let released: Change[];
let held: HeldDeletions;
beforeEach(() => {
  vi.useFakeTimers();
  released = [];
  held = new HeldDeletions(keys, (changes) => released.push(...changes));
});
afterEach(() => void vi.useRealTimers());

test("what carries packets goes when nothing more has vanished for a second, and names at once", () => {
  const [host, name] = [gone(keys.host("h1")), gone(`${keys.namesOn("web", "h1")}a`)];
  expect(held.take([host, name])).toEqual([name]);
  vi.advanceTimersByTime(900);
  const other = gone(keys.host("h2"));
  expect(held.take([other])).toEqual([]);
  vi.advanceTimersByTime(900);
  expect(released).toEqual([]);
  expect([...held.keys]).toEqual([keys.host("h1"), keys.host("h2")]);
  vi.advanceTimersByTime(200);
  expect(released).toEqual([host, other]);
  expect(held.keys.size).toBe(0);
});

test("what is written after it confirms it, in order", () => {
  held.take([gone(keys.network("old"))]);
  expect(held.take([put(keys.network("new"))])).toEqual([
    gone(keys.network("old")),
    put(keys.network("new")),
  ]);
  vi.advanceTimersByTime(5000);
  expect(released).toEqual([]);
});

test("a list makes it forget", () => {
  held.take([gone(keys.cluster)]);
  held.forget();
  vi.advanceTimersByTime(5000);
  expect(released).toEqual([]);
});
