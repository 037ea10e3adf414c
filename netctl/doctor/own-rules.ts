import { openSuite } from "#netctl/suite-host.ts";
import { formatElement } from "#nftables/element.ts";
import type { Check, Finding } from "./finding.ts";

/** What `netctl repair` would put back, and what it can't. */
export const ownRules: Check = {
  id: "own-rules",
  summary: "our tables, rules and elements, links and gateways, as the journal says they have to be",
  async run({ world }) {
    const { host, repair, findLinkProblems } = await openSuite(world);
    try {
      const { tables, attachments, shared, failed } = await repair(host, { dryRun: true });
      const findings: Finding[] = tables.map(({ family, was }) => ({
        id: "own-table",
        severity: "error",
        subject: `${family} netctl`,
        evidence: `table ${family} netctl is ${was === "outdated" ? "of another version of this suite, or not whole" : was}`,
        remedy: "netctl repair",
      }));
      for (const { key, plugin, elements, rules } of attachments) {
        findings.push({
          id: "own-rules-missing",
          severity: "error",
          subject: `${key.network} ${key.containerId} ${key.ifName}`,
          evidence: `${plugin}: missing are ${[...elements.map(formatElement), ...rules].join(", ")}`,
          remedy: "netctl repair",
        });
      }
      for (const element of shared) {
        findings.push({
          id: "own-rules-missing",
          severity: "error",
          subject: "",
          evidence: `missing is ${formatElement(element)}`,
          remedy: "netctl repair",
        });
      }
      for (const { key, reason } of failed) {
        findings.push({
          id: "own-rules-unread",
          severity: "warning",
          subject: key ? `${key.network} ${key.containerId} ${key.ifName}` : "",
          evidence: reason,
          remedy: "netctl repair",
        });
      }
      for (const family of ["inet", "bridge"] as const) {
        if ((await host.nftables.skeletonState(family)) !== "extended") continue;
        findings.push({
          id: "own-table-extended",
          severity: "note",
          subject: `${family} netctl`,
          evidence: `there are rules in chains of table ${family} netctl that are not ours; they go when the rules are loaded anew`,
          remedy: "put them into a table of your own",
        });
      }
      for (const { key, plugin, problem } of await findLinkProblems(host)) {
        findings.push({
          id: "link",
          severity: "error",
          subject: `${key.network} ${key.containerId} ${key.ifName}`,
          evidence: `${plugin}: ${problem}`,
          remedy: "attach the container anew",
        });
      }
      return findings;
    } finally {
      await host.close();
    }
  },
};
