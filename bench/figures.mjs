// What was measured last of each case, in docs/performance.json: the page is written from it, so that the cases can be
// measured one by one, on a machine that is not quiet for long.
import { existsSync, readFileSync, writeFileSync } from "node:fs";

/** By the case's name: title, cells, remarks, and how it was measured. */
export function readFigures(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).cases : {};
}

/** Puts the results in, each in place of what was measured of its case before; answers all figures. */
export function mergeFigures(file, results, rows, how) {
  const cases = readFigures(file);
  for (const { name, title, notes } of results) {
    cases[name] = {
      title,
      ...how,
      rows: rows.filter((row) => row.case === name).map(({ verb, cells }) => ({ verb, cells })),
      remarks: notes.map((note) => note.split("\n")[0]),
    };
  }
  writeFileSync(file, `${JSON.stringify({ cases }, null, 2)}\n`);
  return cases;
}

/** Rows, remarks and origins of all figures, in the order of `names`. */
export function inOrder(figures, names) {
  const present = names.filter((name) => figures[name]).map((name) => figures[name]);
  const origins = new Map();
  for (const { machine, peer, date, count, title } of present) {
    const origin = `${date}, ${machine}; Go plugins: ${peer}; ${count} calls`;
    origins.set(origin, [...(origins.get(origin) ?? []), title]);
  }
  return {
    rows: present.flatMap(({ title, rows }) => rows.map((row) => ({ ...row, title }))),
    remarks: present.flatMap(({ title, remarks }) => remarks.map((remark) => `- ${title}: ${remark}`)),
    origins: [...origins],
  };
}
