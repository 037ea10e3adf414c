import { readProcNet } from "#kernel/proc-net.ts";
import { readSysctl } from "#kernel/sysctl.ts";
import type { Check, Finding } from "./finding.ts";

const tables = [
  { family: "ipv4", statistics: "stat/arp_cache" },
  { family: "ipv6", statistics: "stat/ndisc_cache" },
] as const;
const nearly = 0.85;

/** Beyond gc_thresh3 the kernel resolves nobody else: "neighbour table overflow". */
export const neighbours: Check = {
  id: "neighbours",
  summary: "room in the tables of neighbours (ARP, neighbour discovery)",
  run({ host }) {
    return tables.flatMap(({ family, statistics }): readonly Finding[] => {
      const key = `net.${family}.neigh.default.gc_thresh3`;
      const max = Number(readSysctl(host, key.replaceAll(".", "/")) ?? 0);
      const count = entriesIn(readProcNet(host, statistics) ?? "");
      if (max === 0 || count < nearly * max) return [];
      return [
        {
          id: "neighbours-full",
          severity: count >= max ? "error" : "warning",
          subject: key,
          evidence: `${count} of at most ${max} neighbours are known; beyond that no other is resolved`,
          remedy: `sysctl -w net.${family}.neigh.default.gc_thresh1=${2 * max} net.${family}.neigh.default.gc_thresh2=${4 * max} ${key}=${8 * max}`,
        },
      ];
    });
  },
};

/** The first column of the first line after the heading, in hexadecimal: the same for every processor. */
function entriesIn(statistics: string): number {
  return Number.parseInt(statistics.split("\n")[1]?.trim().split(/\s+/u)[0] ?? "0", 16);
}
