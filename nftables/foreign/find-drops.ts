import type { Cidr } from "#net/cidr.ts";
import { firstIp } from "#net/cidr.ts";
import { addToIp, type IpAddress } from "#net/ip.ts";
import { type Drop, type FirewallChain, type FirewallTable, findDrop } from "./firewall.ts";
import type { Packet } from "./packet.ts";

/** Traffic that a network lets pass, and another firewall may not. */
export type Traffic = "outgoing" | "answers" | "published" | "internal" | "host";

/** A network as the host's firewall sees it. */
export interface GuardedNetwork {
  readonly bridge: string;
  readonly subnets: readonly Cidr[];
  /** One published port of each kind is enough: the answer is the same for all of them, as a rule. */
  readonly published: readonly {
    readonly protocol: "tcp" | "udp" | "sctp";
    readonly hostPort: number;
    readonly container: IpAddress;
    readonly containerPort: number;
  }[];
  /** False for a network without a way out. */
  readonly hasOutside: boolean;
  /** Frames between its containers come through the hooks of IP too (bridge-nf-call-iptables). */
  readonly filtersFrames: boolean;
}

export interface FoundDrop {
  readonly table: FirewallTable;
  readonly chain: FirewallChain & { readonly base: NonNullable<FirewallChain["base"]> };
  readonly drop: Drop;
  readonly traffic: readonly Traffic[];
}

/** Priority of destination translation, NF_IP_PRI_NAT_DST. */
const translationPriority = -100;
/** Priority of connection tracking: nothing is known of a connection before. */
const trackingPriority = -200;

/**
 * Base chains of other firewalls that drop what the network lets pass: a drop in any of a hook's chains is final, whatever
 * the others say, and whichever comes first.
 * @param uplinks names of the interfaces towards the outside, by family; undefined where that is not known
 */
export function findDrops(
  tables: readonly FirewallTable[],
  network: GuardedNetwork,
  uplinks: Readonly<Record<4 | 6, string | undefined>>,
): readonly FoundDrop[] {
  const found: FoundDrop[] = [];
  for (const table of tables) {
    for (const chain of table.chains.values()) {
      const { base } = chain;
      if (!base) continue;
      const drops = packetsOf(network, uplinks, base.priority)
        .filter(({ packet }) => packet.hook === base.hook && isOf(table, packet))
        .flatMap(({ traffic, packet }) => {
          const drop = findDrop(table, chain, packet);
          return drop ? [{ traffic, drop }] : [];
        });
      // Dropped in one place for one reason is one finding.
      for (const [, same] of groupBy(drops, ({ drop }) => `${drop.chain} ${drop.rule ?? ""}`)) {
        const [first] = same;
        if (!first) continue;
        found.push({
          table,
          chain: { ...chain, base },
          drop: { ...first.drop, isCertain: same.some(({ drop }) => drop.isCertain) },
          traffic: [...new Set(same.map(({ traffic }) => traffic))],
        });
      }
    }
  }
  return found;
}

function groupBy<Value>(values: readonly Value[], key: (value: Value) => string): Map<string, Value[]> {
  const groups = new Map<string, Value[]>();
  for (const value of values) groups.set(key(value), [...(groups.get(key(value)) ?? []), value]);
  return groups;
}

function isOf({ family }: FirewallTable, packet: Packet): boolean {
  return family === "inet" || family === (packet.family === 4 ? "ip" : "ip6");
}

interface Sample {
  readonly traffic: Traffic;
  readonly packet: Packet;
}

function packetsOf(
  network: GuardedNetwork,
  uplinks: Readonly<Record<4 | 6, string | undefined>>,
  priority: number,
): readonly Sample[] {
  const families = new Set(network.subnets.map(({ address }) => address.family));
  const published = ([4, 6] as const).flatMap(
    (family) => network.published.find(({ container }) => container.family === family) ?? [],
  );
  return [
    ...[...families].flatMap((family) => unpublished(network, family, uplinks[family])),
    ...published.flatMap((each) => forPublished(each, network, uplinks, priority)),
  ].map(({ traffic, packet }) => ({
    traffic,
    packet: priority < trackingPriority ? { ...packet, isTranslated: false } : packet,
  }));
}

function unpublished(network: GuardedNetwork, family: 4 | 6, uplink: string | undefined): readonly Sample[] {
  const subnet = network.subnets.find(({ address }) => address.family === family);
  if (!subnet) return [];
  const container = addToIp(firstIp(subnet), 2);
  const outgoing: Packet = {
    hook: "forward",
    family,
    inInterface: network.bridge,
    outInterface: uplink,
    source: container,
    destination: undefined,
    // A port that nobody makes a rule for; only a rule for everything tells what becomes of it.
    protocol: "tcp",
    destinationPort: undefined,
    state: "new",
    isTranslated: false,
    isForHost: false,
  };
  const answers: Packet = {
    ...outgoing,
    inInterface: uplink,
    outInterface: network.bridge,
    source: undefined,
    destination: container,
    state: "established",
  };
  const internal: Packet = {
    ...outgoing,
    outInterface: network.bridge,
    destination: addToIp(firstIp(subnet), 3),
  };
  const toHost: Packet = {
    ...outgoing,
    hook: "input",
    outInterface: undefined,
    destination: addToIp(firstIp(subnet), 1),
    protocol: "udp",
    destinationPort: 53,
    isForHost: true,
  };
  const arriving = (packet: Packet): Packet => ({ ...packet, hook: "prerouting", outInterface: undefined });
  return [
    ...(network.hasOutside
      ? ([
          { traffic: "outgoing", packet: outgoing },
          { traffic: "outgoing", packet: arriving(outgoing) },
          { traffic: "answers", packet: answers },
        ] as const)
      : []),
    ...(network.filtersFrames ? [{ traffic: "internal", packet: internal } as const] : []),
    { traffic: "host", packet: toHost },
  ];
}

function forPublished(
  { protocol, hostPort, container, containerPort }: GuardedNetwork["published"][number],
  network: GuardedNetwork,
  uplinks: Readonly<Record<4 | 6, string | undefined>>,
  priority: number,
): readonly Sample[] {
  const { family } = container;
  const translated: Packet = {
    hook: "forward",
    family,
    inInterface: uplinks[family],
    outInterface: network.bridge,
    source: undefined,
    destination: container,
    protocol,
    destinationPort: containerPort,
    state: "new",
    isTranslated: true,
    isForHost: false,
  };
  const isTranslated = priority > translationPriority;
  const arriving: Packet = {
    ...translated,
    hook: "prerouting",
    outInterface: undefined,
    ...(isTranslated
      ? {}
      : { destination: undefined, destinationPort: hostPort, isTranslated: false, isForHost: true }),
  };
  return [
    { traffic: "published", packet: translated },
    { traffic: "published", packet: arriving },
  ];
}
