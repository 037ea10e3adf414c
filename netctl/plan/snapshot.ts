import { type InterfaceAddress, readAllAddresses } from "#kernel/address.ts";
import { type LinkDetails, listLinks, readLinkDetails } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readRules } from "#kernel/policy-routing.ts";
import { type Route, readAllRoutes } from "#kernel/route.ts";
import { readSysctl } from "#kernel/sysctl.ts";
import { ProgramError, runProgram } from "#nftables/program.ts";

/** What one network namespace holds, as far as plugins change it. */
export interface Snapshot {
  readonly links: readonly LinkDetails[];
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
  readonly rules: ReturnType<typeof readRules>;
  /** By key with slashes. */
  readonly sysctls: ReadonlyMap<string, string>;
  /** As `nft -s list ruleset` prints it. */
  readonly ruleset: string;
  /** Lines of `tc qdisc show`; none where there is no tc. */
  readonly qdiscs: readonly string[];
}

/** Of the whole namespace. */
const global = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet"];

/** Of one link, and what links start with. */
const ofLink = [
  "net/ipv4/conf/*/rp_filter",
  "net/ipv4/conf/*/route_localnet",
  "net/ipv4/conf/*/proxy_arp",
  "net/ipv4/conf/*/arp_notify",
  "net/ipv6/conf/*/accept_ra",
  "net/ipv6/conf/*/accept_dad",
  "net/ipv6/conf/*/disable_ipv6",
  "net/ipv6/conf/*/addr_gen_mode",
];

/** @param keys sysctls to look at beside the usual ones */
export async function takeSnapshot(
  namespace: NetworkNamespace,
  keys: readonly string[] = [],
): Promise<Snapshot> {
  const links = listLinks(namespace).flatMap(({ ifindex }) => readLinkDetails(namespace, ifindex) ?? []);
  const names = ["default", ...links.map(({ name }) => name)];
  const all = [...global, ...keys, ...names.flatMap((name) => ofLink.map((key) => key.replace("*", name)))];
  const { path: namespacePath } = namespace;
  return {
    links,
    addresses: readAllAddresses(namespace),
    routes: readAllRoutes(namespace),
    rules: [...readRules(namespace, 4), ...readRules(namespace, 6)],
    sysctls: new Map(
      all.flatMap((key) => {
        const value = readSysctl(namespace, key);
        return value === undefined ? [] : [[key, value] as const];
      }),
    ),
    ruleset: await runProgram("nft", ["-s", "list", "ruleset"], { namespacePath }),
    qdiscs: await listQdiscs(namespacePath),
  };
}

async function listQdiscs(namespacePath: string): Promise<readonly string[]> {
  try {
    const text = await runProgram("tc", ["qdisc", "show"], { namespacePath });
    return text.split("\n").filter((line) => line !== "");
  } catch (error) {
    if (error instanceof ProgramError && error.missing) return [];
    throw error;
  }
}
