import { constants } from "node:fs";
import { access, mkdir, readdir, realpath, stat, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { runTool } from "./command.ts";
import { missingFeatures } from "./kernel-features.ts";
import type { Bench } from "./lab.ts";
import { type Options, parseOptions, usage } from "./options.ts";
import { type Report, readReport, renderMarkdown, writeMarkdown } from "./report.ts";
import { runCases, select } from "./run.ts";
import { coverState, runSecluded, secludedVariable, watchLifeLine } from "./seclusion.ts";
import { renderTable, summary } from "./table.ts";
import { topics } from "./topics.ts";

const tools = ["ip", "bridge", "nft", "ping", "nsenter", "unshare", "mount"];
/** In the folder of executables, but no plugins. */
const noPlugins = new Set(["netctl", "netd"]);

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const selected = select(topics, options.only, options.case);
  if (options.list) {
    await print(selected.map((one) => `${one.topic.name}: ${one.case.title}\n`).join(""));
    return 0;
  }
  if (options.compare.length > 0) return compare(options);
  if (selected.length === 0) throw new RangeError(`No case has ${JSON.stringify(options.case)} in its title`);
  const bin = await realpath(options.bin ?? "");
  if (process.env[secludedVariable] === undefined) {
    if (process.getuid?.() !== 0) throw new RangeError("Cannot make network namespaces: run as root");
    for (const tool of tools) await runTool("sh", ["-c", `command -v ${tool}`]);
    return runSecluded(fileURLToPath(import.meta.url), args);
  }

  const startedMs = performance.now();
  const executables = await readExecutables(bin);
  if (executables.size === 0) throw new RangeError(`Cannot find an executable in "${bin}"`);
  const results: Report["results"][number][] = [];
  watchLifeLine(() => {
    process.stderr.write(`\ninterrupted: ${summary(results)}\n`);
    process.exit(130);
  });
  const outputs = [options.json, options.markdown].filter((file) => file !== undefined);
  await coverState([bin, process.execPath, ...outputs.map((file) => resolve(file))]);
  const directory = "/run/conformance";
  await mkdir(directory, { recursive: true });
  const standalone = process.env["NETCTL_STANDALONE"];
  const bench: Bench = {
    bin,
    executables,
    missingFeatures: await missingFeatures(),
    directory,
    environment: standalone === undefined || standalone === "" ? {} : { NETCTL_STANDALONE: standalone },
    patience: options.patience,
    fuzz: { count: options.fuzz, seed: options.seed },
  };
  const interactive = process.stderr.isTTY;
  const ordered = await runCases(bench, selected, options.jobs, (result, done) => {
    results.push(result);
    if (interactive)
      process.stderr.write(`\r\u001b[K${done}/${selected.length} ${result.topic}: ${result.title}`);
  });
  if (interactive) process.stderr.write("\r\u001b[K");
  const report: Report = {
    tool: "netctl conformance",
    bin: options.bin ?? "",
    kernel: release(),
    date: new Date().toISOString(),
    durationMs: Math.round(performance.now() - startedMs),
    results: ordered,
  };
  await print(`${renderTable(ordered, process.stdout.isTTY)}\n\n${summary(ordered)}\n`);
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(report, null, 2)}\n`);
  if (options.markdown !== undefined)
    await writeMarkdown(options.markdown, renderMarkdown([report], [options.bin ?? ""]));
  return ordered.some((result) => result.status === "fail") ? 1 : 0;
}

/** Writes to stdout, to the end: a pipe takes 64 KiB, and process.exit() drops what it has not taken. */
async function print(text: string): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));
}

async function compare(options: Options): Promise<number> {
  const reports = await Promise.all(options.compare.map(readReport));
  const markdown = renderMarkdown(
    reports,
    reports.map((report) => report.bin),
  );
  if (options.markdown === undefined) await print(markdown);
  else await writeMarkdown(options.markdown, markdown);
  return 0;
}

async function readExecutables(bin: string): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (const name of await readdir(bin)) {
    const path = `${bin}/${name}`;
    if (noPlugins.has(name) || !(await stat(path)).isFile()) continue;
    const executable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (executable) found.add(name);
  }
  return found;
}

main(process.argv.slice(2)).then(
  // Not process.exitCode: the life line would keep the process alive.
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`conformance: ${message}\n`);
    process.exit(2);
  },
);
