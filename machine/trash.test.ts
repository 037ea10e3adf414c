import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { emptyTrash, Trash } from "./trash.ts";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-trash-"));
  file = join(directory, "file");
  writeFileSync(file, "x");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test("what is discarded is gone at once, and its blocks are freed after a flush", async () => {
  const trash = new Trash(join(directory, "trash"));
  trash.discard(file);
  expect(existsSync(file)).toBe(false);
  await emptyTrash();
  expect(readdirSync(join(directory, "trash"))).toEqual([]);
});

test("a link is discarded, not what it leads to; and what is not there is no error", async () => {
  const trash = new Trash(join(directory, "trash"));
  const link = join(directory, "link");
  symlinkSync(file, link);
  trash.discard(link);
  trash.discard(link);
  await emptyTrash();
  expect(readdirSync(directory).sort()).toEqual(["file", "trash"]);
});

test("where there can be no trash, as on a full disk, the file is removed even so", () => {
  writeFileSync(join(directory, "blocked"), "");
  const trash = new Trash(join(directory, "blocked", "trash"));
  trash.discard(file);
  trash.discard(file);
  expect(existsSync(file)).toBe(false);
});

test("sweep() removes what a process that died has left", async () => {
  const old = new Trash(join(directory, "trash"));
  old.discard(file);
  await emptyTrash();
  writeFileSync(join(directory, "trash", "left"), "x");
  const trash = new Trash(join(directory, "trash"));
  trash.sweep();
  await emptyTrash();
  expect(readdirSync(join(directory, "trash"))).toEqual([]);
});

test("what is swept again before it is free is freed once", async () => {
  const trash = new Trash(join(directory, "trash"));
  trash.discard(file);
  for (let each = 0; each < 20; each++) trash.sweep();
  const before = requestsUnderWay();
  const emptied = emptyTrash();
  expect(requestsUnderWay() - before).toBe(1);
  await emptied;
  expect(readdirSync(join(directory, "trash"))).toEqual([]);
});

function requestsUnderWay(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "FSReqCallback").length;
}
