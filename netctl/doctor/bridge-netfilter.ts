import { readSysctl } from "#kernel/sysctl.ts";
import { bridgesIn } from "./context.ts";
import type { Check, Finding } from "./finding.ts";

const keys = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] as const;

/** br_netfilter hands what passes a bridge to the firewall of IP. */
export const bridgeNetfilter: Check = {
  id: "bridge-netfilter",
  summary: "whether frames between containers pass through the firewall (br_netfilter)",
  run(context) {
    if (bridgesIn(context).length === 0) return [];
    return keys
      .filter((key) => readSysctl(context.host, `net/bridge/${key}`) === "1")
      .map(
        (key): Finding => ({
          id: "bridge-netfilter-on",
          severity: "note",
          subject: `net.bridge.${key}`,
          evidence: `net.bridge.${key} is 1: packets between containers of one bridge pass all forward chains of the host, other firewalls' too`,
          remedy: `Kubernetes and Docker want it so; else sysctl -w net.bridge.${key}=0`,
        }),
      );
  },
};
