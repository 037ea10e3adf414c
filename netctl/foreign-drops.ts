import { isJsonObject } from "#cni/json.ts";
import type { JournalRecord } from "#journal/record.ts";
import { readLinkTowards } from "#kernel/localnet.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readProcNet } from "#kernel/proc-net.ts";
import { readSysctl } from "#kernel/sysctl.ts";
import { type Cidr, parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { type DropDescription, describeDrop } from "#nftables/foreign/describe-drop.ts";
import { findDrops, type GuardedNetwork } from "#nftables/foreign/find-drops.ts";
import { readForeignFirewalls } from "#nftables/foreign/read-firewalls.ts";
import { Nft } from "#nftables/nft.ts";
import type { Network } from "./network/listing.ts";

/** A firewall of somebody else's that drops what a network lets pass. */
export interface ForeignDrop extends DropDescription {
  readonly network: string;
  readonly bridge: string;
}

export interface ForeignDrops {
  readonly drops: readonly ForeignDrop[];
  /** What could not be looked at. */
  readonly problems: readonly string[];
}

/** Looks at all other firewalls of the host. Starts nft, and iptables-save where there is something for it to read. */
export async function readForeignDrops(
  host: NetworkNamespace,
  networks: readonly Network[],
  records: readonly JournalRecord[],
): Promise<ForeignDrops> {
  const listing = await new Nft().listRuleset();
  const legacyTables = { 4: legacyNames(host, "ip"), 6: legacyNames(host, "ip6") };
  const { tables, problems } = await readForeignFirewalls(listing, legacyTables);
  const uplinks = { 4: uplinkOf(host, "192.0.2.1"), 6: uplinkOf(host, "2001:db8::1") };
  const drops = networks.flatMap((network) =>
    guarded(network, records, host).flatMap((each) =>
      findDrops(tables, each, uplinks).map((drop) => ({
        network: network.name,
        bridge: each.bridge,
        ...describeDrop(drop, each.bridge),
      })),
    ),
  );
  return { drops, problems };
}

function legacyNames(host: NetworkNamespace, family: "ip" | "ip6"): readonly string[] {
  return (readProcNet(host, `${family}_tables_names`) ?? "").split("\n").filter(Boolean);
}

/** Towards an address that nobody has (RFC 5737, RFC 3849): where the default route leads. */
function uplinkOf(host: NetworkNamespace, address: string): string | undefined {
  try {
    return readLinkTowards(host, parseIp(address))?.name;
  } catch {
    return undefined;
  }
}

function guarded(
  network: Network,
  records: readonly JournalRecord[],
  host: NetworkNamespace,
): readonly GuardedNetwork[] {
  const subnets = network.subnets.flatMap(({ subnet }) => cidrOf(subnet));
  if (subnets.length === 0) return [];
  return network.bridges.map((bridge) => ({
    bridge,
    subnets,
    published: publishedIn(network.name, records),
    hasOutside: network.notes?.internal !== true,
    filtersFrames: readSysctl(host, "net/bridge/bridge-nf-call-iptables") === "1",
  }));
}

function cidrOf(text: string): readonly Cidr[] {
  try {
    return [parseCidr(text)];
  } catch {
    return [];
  }
}

/** What the portmap plugin of this suite says in its records; of no other plugin is anything assumed. */
function publishedIn(
  network: string,
  records: readonly JournalRecord[],
): readonly GuardedNetwork["published"][number][] {
  return records.flatMap((record) => {
    if (record.phase !== "done" || record.key.network !== network || !isJsonObject(record.made)) return [];
    const { published } = record.made;
    if (record.plugin !== "portmap" || !Array.isArray(published)) return [];
    return (published as readonly unknown[]).flatMap((each) => {
      if (!isJsonObject(each)) return [];
      const { protocol, hostPort, containerIp, containerPort } = each;
      if (protocol !== "tcp" && protocol !== "udp" && protocol !== "sctp") return [];
      if (typeof hostPort !== "number" || typeof containerPort !== "number") return [];
      if (typeof containerIp !== "string") return [];
      return [{ protocol, hostPort, container: parseIp(containerIp), containerPort }];
    });
  });
}
