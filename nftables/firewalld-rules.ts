import { NetfilterFamily } from "#netlink/netfilter/header.ts";
import type { Place } from "#netlink/netfilter/table.ts";
import type { Nftables } from "./nftables.ts";

/** With its backend nftables, which is the default since 0.6, and with iptables. */
const placesOfFirewalld: readonly Place[] = [
  { family: NetfilterFamily.inet, table: "firewalld" },
  { family: NetfilterFamily.ip, table: "filter", chain: "FORWARD_direct" },
];

/** Whether firewalld has rules in this network namespace. It may have left them there. @throws {NetlinkError} */
export function hasFirewalldRules(nftables: Nftables): boolean {
  return placesOfFirewalld.some((place) => nftables.isThere(place));
}
