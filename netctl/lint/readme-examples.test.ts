import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { unknownFields } from "#cni/schema-fields.ts";
import { configReaders } from "#suite/config-readers.ts";
import { pluginNames } from "#suite/plugins.ts";
import { readmeExamples } from "#testing/readme-examples.ts";
import { readForLint } from "./read.ts";
import { findingsOf } from "./rules.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-examples-"));
  for (const name of pluginNames) writeFileSync(join(directory, name), "", { mode: 0o755 });
});
afterAll(() => rmSync(directory, { recursive: true }));

const examples = readmeExamples();

test("every plugin's README has an example", () => {
  const shown = new Set(examples.map(({ title }) => title.replace(/ README.*/u, "")));
  expect([...shown].sort()).toEqual([...pluginNames].sort());
});

test.each(examples)("$title: nobody finds anything in it", async ({ list }) => {
  const file = join(directory, "10-example.conflist");
  writeFileSync(file, JSON.stringify(list));
  const { subject, findings } = await readForLint(file);
  const context = { path: [directory], readers: configReaders, networks: [], host: [] };
  const found = [...findings, ...(subject ? findingsOf(subject, context) : [])];
  const grave = found.filter(({ id, severity }) => severity !== "note" || id === "field-unknown");
  expect(grave).toEqual([]);
});

const readers = Object.entries({
  ...configReaders.interfaces,
  ...configReaders.chained,
  ...configReaders.ipam,
});

test.each(readers)("%s: its README has every field that is read", (name, { schema }) => {
  const [stranger] = unknownFields(schema, { "no such field": 1 });
  const text = readFileSync(join(import.meta.dirname, "../../plugins", name, "README.md"), "utf8");
  const words = new Set(text.match(/`[^`\n]+`/gu)?.flatMap((code) => code.match(/\w+/gu) ?? []));
  expect((stranger?.known ?? []).filter((field) => !words.has(field))).toEqual([]);
});
