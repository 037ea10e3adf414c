// The table, for the terminal and for docs/performance.md.
import { readFileSync, writeFileSync } from "node:fs";

const ms = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const pair = (summary) =>
  summary
    ? `${ms(summary.median)} / ${ms(summary.p95)}${summary.failed ? ` (${summary.failed} failed)` : ""}`
    : "–";

/** A floor's part is the time until a deletion's system call is back, long after the link is gone. */
const limit = (floor) =>
  floor ? `${ms(floor.median)}${floor.parts.length > 0 ? ` (${ms(floor.parts[0])})` : ""}` : "–";

const header = ["case", "verb", "ours", "standalone", "Go", "Go : ours", "limit"];

/** One row for each case and verb: medians and p95 in ms, the peer's median divided by ours, the kernel's share. */
export function rowsOf({ name, title, plugins, measurement }) {
  return measurement.verbs().map((verb) => {
    const of = (subject) => measurement.summary(subject, verb);
    const [ours, standalone, peer, floor] = ["ours", "standalone", "peer", "floor"].map(of);
    const own = ours ?? standalone;
    return {
      case: name,
      title,
      verb,
      plugins,
      ours,
      standalone,
      peer,
      floor,
      ratio: own && peer ? peer.median / own.median : undefined,
      cells: [
        title,
        verb,
        pair(ours),
        pair(standalone),
        pair(peer),
        own && peer ? `${(peer.median / own.median).toFixed(1)}${ours ? "" : " (standalone)"}` : "–",
        limit(floor),
      ],
    };
  });
}

function withoutRepeats(rows) {
  return rows.map(({ cells: [title, ...rest] }, index) => [
    index > 0 && rows[index - 1].title === title ? "" : title,
    ...rest,
  ]);
}

export function textTable(rows) {
  const lines = [header, ...withoutRepeats(rows)];
  const widths = header.map((_, column) => Math.max(...lines.map((cells) => cells[column].length)));
  const render = (cells) =>
    cells
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
      .join("  ");
  return [
    render(header),
    widths.map((width) => "-".repeat(width)).join("  "),
    ...lines.slice(1).map(render),
  ].join("\n");
}

export function markdownTable(rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [
    line(header),
    line(["---", "---", "--:", "--:", "--:", "--:", "--:"]),
    ...withoutRepeats(rows).map(line),
  ].join("\n");
}

/** Puts the text between the page's two markers of that section. */
export function writePage(file, text, section = "measured") {
  const [begin, end] = [`<!-- ${section}: begin -->`, `<!-- ${section}: end -->`];
  const page = readFileSync(file, "utf8");
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Error(`Cannot write ${file}: it has no lines "${begin}" and "${end}"`);
  writeFileSync(file, `${page.slice(0, from + begin.length)}\n\n${text.trim()}\n\n${page.slice(to)}`);
}
