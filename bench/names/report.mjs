import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { median } from "../statistics.mjs";
import { fixedLoad } from "./load.mjs";

const k = (value) => (Number.isNaN(value) ? "" : `${Math.round(value / 1000)}k`);
const us = (value) => (Number.isNaN(value) ? "" : value.toFixed(1));

/** Each figure: the median of the rounds. @param quiet what else the CPUs did, in shares of all of them */
export function tableOf(results, { seconds, rounds, quiet }) {
  const head = [
    "",
    "local, q/s",
    "µs of CPU",
    "external, kept, q/s",
    "µs of CPU",
    "external, new, q/s",
    "µs of CPU",
    `p50 / p99 at ${k(fixedLoad)}, µs`,
    "p50 / p99 at half its peak*, µs",
    "MiB",
  ];
  const middle = (list, field) => median(list.map((each) => each[field]));
  const latency = (list) => `${Math.round(middle(list, "p50"))} / ${Math.round(middle(list, "p99"))}`;
  const rows = results.map(({ title, local, kept, fresh, fixed, half, memory }) => [
    title,
    ...[local, kept, fresh].flatMap((list) => [k(middle(list, "rate")), us(middle(list, "microseconds"))]),
    latency(fixed),
    latency(half),
    memory.toFixed(0),
  ]);
  const percent = (share) => `${Math.round(share * 100)} %`;
  return [
    `Node ${process.version}, Linux ${release()}, ${cpus().length} CPUs (${cpus()[0]?.model ?? "unknown"}), dnsperf on the same CPUs; medians of ${rounds} rounds of ${seconds} s each, the servers in turn.`,
    `Of the CPUs' time meanwhile, ${percent(quiet.others)} was others', ${percent(quiet.stolen)} the machine's host's.`,
    "",
    `| ${head.join(" | ")} |`,
    `|${head.map(() => "---").join("|")}|`,
    ...rows.map((row) => `| ${row.join(" | ")} |`),
    "",
    "\\* at most 100,000 queries a second",
    ...results.flatMap(({ title, local, kept, fresh }) =>
      Object.entries({ local, kept, fresh }).flatMap(([what, list]) => {
        const lost = list.reduce((sum, each) => sum + each.lost, 0);
        const isBad = list.some(({ bad }) => bad);
        if (lost === 0 && !isBad) return [];
        return [`${title}, ${what}: ${lost} queries lost${isBad ? ", and answers that are none" : ""}`];
      }),
    ),
  ];
}

export function memoryLine({ containers, before, after, restarted, each }) {
  return `netd with ${containers} containers, each of which has asked for another: ${after.toFixed(0)} MiB, ${before.toFixed(0)} with one, ${restarted.toFixed(0)} after a restart; ${each.toFixed(1)} ms for each ADD of dns, the start of two processes included.`;
}

/** Puts the lines between the marks of a page. */
export function writeInto(page, lines) {
  const [beginning, end] = ["<!-- bench:names -->", "<!-- /bench:names -->"];
  const [before, rest] = readFileSync(page, "utf8").split(beginning);
  writeFileSync(page, `${before}${beginning}\n${lines.join("\n")}\n${end}${rest.split(end)[1]}`);
}
