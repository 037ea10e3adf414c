import { readFile, writeFile } from "node:fs/promises";
import type { CaseResult } from "./case.ts";
import { oneLine, summary } from "./table.ts";

/** What --json writes. */
export interface Report {
  readonly tool: "netctl conformance";
  readonly bin: string;
  readonly kernel: string;
  readonly date: string;
  readonly durationMs: number;
  readonly results: readonly CaseResult[];
}

/** @throws {SyntaxError} if the file is no such report */
export async function readReport(file: string): Promise<Report> {
  const value = JSON.parse(await readFile(file, "utf8")) as Report;
  if (value.tool !== "netctl conformance" || !Array.isArray(value.results))
    throw new SyntaxError(`Cannot read "${file}": it is not a result file of the conformance kit`);
  return value;
}

/** The results of one or several reports as Markdown: a table for each topic, one column for each report. */
export function renderMarkdown(reports: readonly Report[], names: readonly string[]): string {
  const lines: string[] = [
    "| | passed | failed | skipped | seconds |",
    "|---|---|---|---|---|",
    ...reports.map((report, at) => {
      const counts = summary(report.results).match(/\d+/g) ?? [];
      return `| ${names[at] ?? report.bin} | ${counts.join(" | ")} | ${(report.durationMs / 1000).toFixed(0)} |`;
    }),
  ];
  const order: { topic: string; title: string; source: string }[] = [];
  const seen = new Set<string>();
  for (const result of reports.flatMap((report) => report.results)) {
    const key = `${result.topic}\n${result.title}`;
    if (!seen.has(key)) order.push(result);
    seen.add(key);
  }
  const topics = [...new Set(order.map((row) => row.topic))];
  for (const topic of topics) {
    lines.push("", `### ${topic}`, "");
    lines.push(`| case | source | ${names.join(" | ")} | remark |`);
    lines.push(`|---|---|${names.map(() => "---").join("|")}|---|`);
    for (const row of order.filter((candidate) => candidate.topic === topic)) {
      const found = reports.map((report) =>
        report.results.find((result) => result.topic === topic && result.title === row.title),
      );
      const cells = found.map((result) => (result === undefined ? "" : marks[result.status]));
      lines.push(
        `| ${cell(row.title)} | ${cell(row.source)} | ${cells.join(" | ")} | ${cell(remark(found))} |`,
      );
    }
  }
  return `${lines.join("\n")}\n`;
}

const marks = { pass: "pass", fail: "**fail**", skip: "skip" } as const;

function remark(found: readonly (CaseResult | undefined)[]): string {
  const failed = found.filter((result) => result?.status === "fail");
  const parts: string[] = [];
  for (const result of failed) {
    if (result === undefined) continue;
    const reason = shorten(oneLine(result.reason));
    parts.push(result.reference === undefined ? reason : `${result.reference} (${reason})`);
  }
  if (parts.length === 0) {
    const skipped = found.find((result) => result?.status === "skip");
    if (skipped !== undefined) parts.push(oneLine(skipped.reason));
  }
  return parts.join("; ");
}

/** Names with a random part differ from run to run; a table that is kept should not. */
function shorten(reason: string): string {
  const stable = reason
    .replace(/cf-l\d+-[a-z0-9]+-[0-9a-f]{8}/g, "NETNS")
    .replace(/\bl\d+-container-(\d+)/g, "container-$1")
    .replace(/\bveth[0-9a-f]{6,12}\b/g, "vethX")
    .replace(/\/run\/conformance\/l\d+/g, "DIR")
    .replace(/\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, "MAC");
  return stable.length > 160 ? `${stable.slice(0, 159)}…` : stable;
}

function cell(text: string): string {
  return text.replace(/\|/g, "\\|").replace(/</g, "&lt;");
}

const begin = "<!-- conformance:begin -->";
const end = "<!-- conformance:end -->";

/** Writes `markdown` to `file`; where it has the two marks, between them only. */
export async function writeMarkdown(file: string, markdown: string): Promise<void> {
  const old = await readFile(file, "utf8").catch(() => "");
  const from = old.indexOf(begin);
  const to = old.indexOf(end);
  const text =
    from >= 0 && to > from ? `${old.slice(0, from)}${begin}\n\n${markdown}\n${old.slice(to)}` : markdown;
  await writeFile(file, text);
}
