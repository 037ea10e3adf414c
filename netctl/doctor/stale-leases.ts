import { readLeases } from "#netctl/inspect/lease-view.ts";
import { listAttachments } from "#runtime/attachments.ts";
import type { Check, Finding } from "./finding.ts";

const shownAtMost = 5;

/** Addresses that nobody can get any more, since nobody has them. */
export const staleLeases: Check = {
  id: "stale-leases",
  summary: "addresses reserved for containers that nothing is known of",
  async run({ networks, world }) {
    const findings: Finding[] = [];
    for (const { name, configured } of networks) {
      const plugins = configured.list.plugins.map(({ json }) => json);
      const leases = readLeases(name, plugins, world.directories.leases) ?? [];
      if (leases.length === 0) continue;
      const known = await listAttachments(world.journal, world.chain.cache, name);
      const owners = new Set(known.map(({ containerId }) => containerId));
      const stale = leases.filter(({ containerId }) => !owners.has(containerId));
      if (stale.length === 0) continue;
      const shown = stale.slice(0, shownAtMost).map(({ ip, containerId }) => `${ip} (${containerId})`);
      const rest = stale.length - shown.length;
      findings.push({
        id: "stale-lease",
        severity: "warning",
        subject: name,
        evidence: `${stale.length} of ${leases.length} addresses are reserved for containers that neither the journal nor a runtime's cache knows: ${shown.join(", ")}${rest > 0 ? ` and ${rest} more` : ""}`,
        remedy: `netctl ipam gc ${name}, unless a runtime with a cache of its own uses the network`,
      });
    }
    return findings;
  },
};
