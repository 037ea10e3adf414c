import { readForeignDrops } from "#netctl/foreign-drops.ts";
import type { Check, Finding } from "./finding.ts";

/** A drop in any base chain is final, whichever table it is in: the commonest reason why nothing gets through. */
export const foreignFirewall: Check = {
  id: "foreign-firewall",
  summary: "other firewalls that drop what the networks let pass: ufw, firewalld, dockerd, any chain",
  async run({ host, networks, records }) {
    const { drops, problems } = await readForeignDrops(host, networks, records);
    return [
      ...drops.map(
        ({ network, isCertain, isMinor, evidence, remedy }): Finding => ({
          id: "foreign-firewall",
          severity: isMinor ? "note" : isCertain ? "error" : "warning",
          subject: network,
          evidence,
          remedy,
        }),
      ),
      ...problems.map(
        (problem): Finding => ({
          id: "foreign-firewall-unread",
          severity: "warning",
          subject: "",
          evidence: problem,
          remedy: "install the iptables programs of that kind",
        }),
      ),
    ];
  },
};
