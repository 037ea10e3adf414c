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

test("what is written again is back at once, and confirms nothing else", () => {
  held.take([gone(keys.network("old")), gone(keys.host("h1"))]);
  expect(held.take([put(keys.network("new"))])).toEqual([put(keys.network("new"))]);
  expect(held.take([put(keys.host("h1"))])).toEqual([gone(keys.host("h1")), put(keys.host("h1"))]);
  expect([...held.keys]).toEqual([keys.network("old")]);
});

test("a container that is on another host now has left the one before", () => {
  const [there, other] = [gone(`${keys.endpointsOn("web", "h1")}a`), gone(keys.host("h3"))];
  held.take([there, other]);
  const here = put(`${keys.endpointsOn("web", "h2")}b`);
  expect(held.take([here])).toEqual([there, here]);
  expect([...held.keys]).toEqual([keys.host("h3")]);
});

test("where something vanishes all the time, each goes a quarter of a minute later", () => {
  const all = Array.from({ length: 40 }, (_, index) => gone(`${keys.endpointsOn("web", "h1")}${index}`));
  for (const each of all) {
    held.take([each]);
    vi.advanceTimersByTime(500);
  }
  expect(released).toEqual(all.slice(0, 11));
  vi.advanceTimersByTime(1000);
  expect(released).toEqual(all);
});

test("a list makes it forget", () => {
  held.take([gone(keys.cluster)]);
  held.forget();
  vi.advanceTimersByTime(5000);
  expect(released).toEqual([]);
});
