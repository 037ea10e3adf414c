import type { CaseResult } from "./case.ts";

const colours = { pass: "\u001b[32m", fail: "\u001b[31m", skip: "\u001b[33m" } as const;

/** "N passed, N failed, N skipped" */
export function summary(results: readonly CaseResult[]): string {
  const count = (status: CaseResult["status"]): number =>
    results.filter((result) => result.status === status).length;
  return `${count("pass")} passed, ${count("fail")} failed, ${count("skip")} skipped`;
}

/** One line a case, columns aligned; the reason of a failure or skip on a line of its own. */
export function renderTable(results: readonly CaseResult[], coloured: boolean): string {
  const titleWidth = Math.max(...results.map((result) => result.title.length), 5);
  const lines: string[] = [];
  let topic = "";
  for (const result of results) {
    if (result.topic !== topic) {
      topic = result.topic;
      lines.push(lines.length === 0 ? topic : `\n${topic}`);
    }
    const status = coloured ? `${colours[result.status]}${result.status}\u001b[0m` : result.status;
    lines.push(`  ${status}  ${result.title.padEnd(titleWidth)}  ${result.source}`.trimEnd());
    if (result.reason !== "") lines.push(`        ${oneLine(result.reason)}`);
  }
  return lines.join("\n");
}

export function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
