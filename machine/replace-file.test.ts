import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { replaceFile } from "./replace-file.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-replace-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

it("makes a file, and replaces it, with its permissions and nothing beside it", () => {
  const path = join(directory, "a");
  replaceFile(path, "one", 0o600);
  replaceFile(path, "two", 0o600);
  expect(readFileSync(path, "utf8")).toBe("two");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(directory)).toEqual(["a"]);
});

it("leaves nothing behind where it fails", () => {
  const path = join(directory, "folder");
  mkdirSync(join(path, "full"), { recursive: true });
  expect(() => replaceFile(path, "text", 0o600)).toThrow(/EISDIR|ENOTEMPTY/);
  expect(readdirSync(directory)).toEqual(["folder"]);
  expect(() => replaceFile(join(directory, "none", "a"), "text", 0o600)).toThrow(/ENOENT/);
});
