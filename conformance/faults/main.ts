import { mkdir, realpath, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { missingFeatures } from "#conformance/kernel-features.ts";
import { coverState, runSecluded, secludedVariable, watchLifeLine } from "#conformance/seclusion.ts";
import { type Kit, messageOf, type Row } from "./kit.ts";
import { runScenarios } from "./run.ts";
import { quickScenarios, scenarios } from "./scenarios.ts";

const usage = `Usage: faults [--quick] [--only TEXT] [--jobs N] [--json FILE] [--list]

Kills, stops and starves the fault build beside this program, and looks at what is left. Needs root.
Build it with: node scripts/build.mjs --faults DIR

  --quick      a part of every scenario, in a few minutes
  --only TEXT  scenarios whose name contains TEXT
  --jobs N     scenarios at a time (as many as there are processors)
  --json FILE  write every row
  --list       print the scenarios, run nothing
`;

interface Options {
  readonly isQuick: boolean;
  readonly isList: boolean;
  readonly only: string;
  readonly jobs: number;
  readonly json: string | undefined;
}

/** @throws {RangeError} */
function parseOptions(args: readonly string[]): Options {
  const values = new Map<string, string>();
  for (let at = 0; at < args.length; at++) {
    const name = args[at] ?? "";
    if (["--quick", "--list", "--help"].includes(name)) values.set(name, "");
    else if (["--only", "--jobs", "--json"].includes(name)) values.set(name, args[++at] ?? "");
    else throw new RangeError(`Unknown argument "${name}"\n${usage}`);
  }
  if (values.has("--help")) throw new RangeError(usage);
  const json = values.get("--json");
  return {
    isQuick: values.has("--quick"),
    isList: values.has("--list"),
    only: values.get("--only") ?? "",
    jobs: Math.max(1, Number(values.get("--jobs") ?? availableParallelism()) || 1),
    json: json === undefined ? undefined : resolve(json),
  };
}

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  const selected = (options.isQuick ? quickScenarios : scenarios).filter(({ name }) =>
    name.includes(options.only),
  );
  if (options.isList) {
    for (const { name } of selected) process.stdout.write(`${name}\n`);
    return 0;
  }
  const program = fileURLToPath(import.meta.url);
  if (process.env[secludedVariable] === undefined) {
    if (process.getuid?.() !== 0) throw new RangeError("Cannot make network namespaces: run as root");
    return await runSecluded(program, args);
  }
  const build = await realpath(dirname(program));
  const rows: Row[] = [];
  watchLifeLine(() => {
    process.stderr.write(`\ninterrupted: ${summary(rows)}\n`);
    process.exit(130);
  });
  await coverState([build, process.execPath, ...(options.json === undefined ? [] : [options.json])]);
  const directory = "/run/faults";
  await mkdir(directory, { recursive: true });
  const kit: Kit = { bin: `${build}/bin`, lib: `${build}/lib`, directory, isFull: !options.isQuick };
  await runScenarios(kit, selected, await missingFeatures(), options.jobs, (scenario, its, durationMs) => {
    rows.push(...its);
    const skipped = its.find((row) => row.skipped !== undefined)?.skipped;
    if (skipped !== undefined) return void process.stdout.write(`skip  ${scenario.name}: ${skipped}\n`);
    const failed = its.filter(({ reason }) => reason !== "");
    const verdict = failed.length === 0 ? "pass" : "FAIL";
    process.stdout.write(
      `${verdict}  ${scenario.name}: ${its.length - failed.length} of ${its.length} in ${(durationMs / 1000).toFixed(1)} s\n`,
    );
    for (const { fault, followUp, reason } of failed.slice(0, 12))
      process.stdout.write(`        ${[fault, followUp].filter(Boolean).join(", then ")}: ${reason}\n`);
  });
  process.stdout.write(`\n${summary(rows)}\n`);
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(rows, null, 2)}\n`);
  return rows.some(({ reason }) => reason !== "") ? 1 : 0;
}

function summary(rows: readonly Row[]): string {
  const tried = rows.filter(({ skipped }) => skipped === undefined);
  const failed = tried.filter(({ reason }) => reason !== "").length;
  return `${tried.length - failed} faults survived, ${failed} not`;
}

main(process.argv.slice(2)).then(
  // Not process.exitCode: the life line would keep the process alive.
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    process.stderr.write(`faults: ${messageOf(error)}\n`);
    process.exit(2);
  },
);
