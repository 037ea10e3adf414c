import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Entry } from "#engine/engine.ts";
import { KnownFile } from "./known-file.ts";

let directory: string;
let path: string;
let revision: number;
let entries: Map<string, Entry>;
let file: KnownFile;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "known-"));
  path = join(directory, "known.json");
  revision = 0;
  entries = new Map();
  file = new KnownFile(directory, "known.json");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function put(key: string, value: string): void {
  entries.set(key, { key, value, revision: ++revision });
  file.touch(key);
}

function remove(key: string): void {
  revision++;
  entries.delete(key);
  file.touch(key);
}

function save(): void {
  file.save({
    revision,
    size: entries.size,
    entry: (key) => entries.get(key),
    entries: () => entries.values(),
  });
}

/** As another process finds it. */
const found = () => new KnownFile(directory, "known.json").load();
const byKey = (a: Entry, b: Entry) => (a.key < b.key ? -1 : 1);

test("another process finds what was saved last, whatever came, changed and went", () => {
  for (let step = 0; step < 5000; step++) {
    const key = `k${(step * 7919) % 100}`;
    if (step % 3 === 0) remove(key);
    else put(key, `value ${step}`);
    if (step % 5 === 0) save();
  }
  save();
  const { revision: read, entries: all = [] } = found() ?? {};
  expect(read).toBe(revision);
  expect([...all].sort(byKey)).toEqual([...entries.values()].sort(byKey));
  // A hundred entries, of which each was written fifty times.
  expect(statSync(path).size).toBeLessThan(100_000);
});

test("a change among many adds a line to the file, and does not write it anew", () => {
  for (let at = 0; at < 1000; at++) put(`k${at}`, "x".repeat(100));
  save();
  const { ino, size } = statSync(path);
  put("k5", "other");
  save();
  expect(statSync(path).ino).toBe(ino);
  expect(statSync(path).size).toBeLessThan(size + 200);
  expect(found()?.entries).toContainEqual(entries.get("k5"));
});

test("what a process was killed in the middle of writing does not hide what stands before it", () => {
  put("a", "1");
  save();
  appendFileSync(path, '{"key":"b","val');
  expect(found()).toEqual({ revision: 1, entries: [{ key: "a", value: "1", revision: 1 }] });
  // Nor what the next process writes.
  file = new KnownFile(directory, "known.json");
  put("c", "3");
  save();
  expect(found()?.entries.map(({ key }) => key)).toEqual(["a", "c"]);
});

test("a file that somebody has taken away is written again, whole", () => {
  put("a", "1");
  save();
  rmSync(path);
  put("b", "2");
  expect(save).toThrow();
  save();
  expect(found()?.entries.map(({ key }) => key)).toEqual(["a", "b"]);
});

test("reads the single line of earlier versions, and says of a damaged file that it is none", () => {
  const entry = { key: "a", value: "1", revision: 3 };
  writeFileSync(path, JSON.stringify({ revision: 7, entries: [entry] }));
  expect(found()).toEqual({ revision: 7, entries: [entry] });
  writeFileSync(path, readFileSync(path, "utf8").slice(0, 20));
  expect(found()).toBeUndefined();
  rmSync(path);
  expect(found()).toBeUndefined();
});
