import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommand, runTool } from "#conformance/command.ts";
import { testWith } from "#testing/requires.ts";
import type { Row } from "./kit.ts";
import { quickScenarios } from "./scenarios.ts";

/** A run takes a minute and a half on two processors that have nothing else to do. */
const timeoutMs = 900_000;

const root = join(import.meta.dirname, "../..");
let directory = "";
let rows: readonly Row[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "netctl-faults-"));
  await runTool(process.execPath, [join(root, "scripts/build.mjs"), "--faults", directory], {
    timeoutMs: 120_000,
  });
  const report = join(directory, "rows.json");
  const words = [join(directory, "faults.js"), "--quick", "--json", report];
  const { stdout, stderr } = await runCommand(process.execPath, words, { timeoutMs });
  if (!existsSync(report)) throw new Error(`The run did not come to its end: ${stdout}${stderr}`);
  rows = JSON.parse(readFileSync(report, "utf8")) as readonly Row[];
}, timeoutMs + 120_000);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("journal, leases, kernel and nftables agree, nothing is left, and nobody else notices", () => {
  for (const { name, needs } of quickScenarios) {
    const body = () => {
      const own = rows.filter((row) => row.scenario === name);
      expect(own.length).toBeGreaterThan(0);
      expect(own.filter(({ reason, skipped }) => reason !== "" || skipped !== undefined)).toEqual([]);
    };
    if (needs === undefined) test(name, body);
    else testWith(["bridge-vlan-filtering"], name, body);
  }
});
