import { readSysctl } from "#kernel/sysctl.ts";
import type { Check } from "./finding.ts";

const nearly = 0.85;
const full = 0.98;

/** A full table drops the first packet of every new connection, with one line in the kernel's log. */
export const conntrack: Check = {
  id: "conntrack",
  summary: "room in the table of tracked connections",
  run({ host }) {
    const count = Number(readSysctl(host, "net/netfilter/nf_conntrack_count") ?? 0);
    const max = Number(readSysctl(host, "net/netfilter/nf_conntrack_max") ?? 0);
    if (max === 0 || count < nearly * max) return [];
    return [
      {
        id: "conntrack-full",
        severity: count >= full * max ? "error" : "warning",
        subject: "net.netfilter.nf_conntrack_max",
        evidence: `${count} of ${max} connections are tracked; where the table is full, new connections are dropped`,
        remedy: `sysctl -w net.netfilter.nf_conntrack_max=${2 * max}, and see who opens them: conntrack -L`,
      },
    ];
  },
};
