import { listLinks } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { type Cidr, equalCidr, formatCidr } from "#net/cidr.ts";
import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import { decodeForwardingEntry, getForwardingEntries } from "#netlink/route/fdb.ts";
import { firstLink, getLink } from "#netlink/route/link.ts";
import { decodeNeighbor, getNeighbors, NeighborFlag, NeighborState } from "#netlink/route/neighbor.ts";
import { decodeRoute, getRoutes } from "#netlink/route/route.ts";
import { hostAddresses, nextHopsOf } from "./desired.ts";
import { encryptedVtepName, overlayBridgeName, vtepMac, vtepName } from "./identity.ts";
import { routeProtocol } from "./kernel-entry.ts";
import type { HostRecord, NetworkRecord } from "./record.ts";
import { portProblem } from "./stretch.ts";
import type { ClusterView } from "./view.ts";

/** What the kernel has of one network's ways, beside what the engine wants. Nothing is changed. */
export interface KernelSurvey {
  /** The tunnels that are there. */
  readonly devices: readonly string[];
  /** Other host → what leads to it in the engine and not in the kernel, in words. */
  readonly missing: ReadonlyMap<string, readonly string[]>;
  /** What leads to somebody whom the engine does not have, in words. */
  readonly unexplained: readonly string[];
  /** How the tunnels are not as they should be, each a sentence. */
  readonly wrong: readonly string[];
}

interface Present {
  readonly routes: readonly {
    readonly destination: Cidr;
    readonly gateway: IpAddress | undefined;
    readonly device: string;
  }[];
  readonly neighbours: readonly { readonly ip: IpAddress; readonly mac: string; readonly device: string }[];
  readonly forwarding: readonly {
    readonly mac: string;
    readonly destination: IpAddress;
    readonly device: string;
  }[];
  /** MAC addresses that the bridge of a network of mode l2 sends to the tunnel. */
  readonly bridged: ReadonlySet<string>;
}

interface Named {
  readonly ifindex: number;
  readonly name: string;
}

/** Whom a host is reached by, and how, in words that `Present` can be looked through for. */
interface Wanted {
  readonly host: string;
  readonly words: string;
  readonly isThere: (present: Present) => boolean;
}

/**
 * Compares one network. Of an encrypted one the addresses inside the encryption are not compared, as only the agent
 * knows by which of the other host's keys it goes.
 * @param self this host's id; without addresses of its own in the network it needs no way to the others
 */
export function surveyNetwork(
  namespace: NetworkNamespace,
  view: ClusterView,
  network: NetworkRecord,
  self: string,
): KernelSurvey {
  const { vni, name, mode } = network;
  const tunnels = network.encrypted
    ? [encryptedVtepName(vni, "a"), encryptedVtepName(vni, "b")]
    : [vtepName(vni, 4), vtepName(vni, 6)];
  const links = listLinks(namespace);
  const devices = links.filter((link) => link.kind === "vxlan" && tunnels.some((each) => each === link.name));
  const bridge = links.find((link) => link.name === overlayBridgeName(vni));
  const present = readPresent(namespace, devices, mode === "l2" ? bridge : undefined);
  const blocks = [...view.blocks.values()].filter((block) => block.network === name);
  const takesPart = blocks.some(({ record }) => record.host === self);
  const wanted = !takesPart
    ? []
    : mode === "l2"
      ? [...containersWanted(view, network, self), ...hostsWanted(view, network, self)]
      : hostsWanted(view, network, self);
  const missing = new Map<string, string[]>();
  for (const { host, words, isThere } of wanted) {
    if (isThere(present)) continue;
    const list = missing.get(host) ?? [];
    missing.set(host, list);
    list.push(words);
  }
  const macs = new Set(
    mode === "l2" ? [...view.endpointsOf(name).values()].map(({ record }): string => record.mac) : [],
  );
  for (const { record } of blocks) macs.add(vtepMac(record.host, vni));
  const isKnownBlock = (cidr: Cidr) => blocks.some(({ record }) => equalCidr(record.cidr, cidr));
  return {
    devices: devices.map((link) => link.name),
    wrong: mode === "l2" && bridge ? devices.flatMap((link) => portWords(namespace, link, bridge)) : [],
    missing,
    unexplained: [
      ...present.routes
        .filter(({ destination }) => !isKnownBlock(destination))
        .map(({ destination, device }) => `route to ${formatCidr(destination)} by ${device}`),
      ...present.neighbours
        .filter(({ mac }) => !macs.has(mac))
        .map(({ ip, mac, device }) => `neighbour ${formatIp(ip)} at ${mac} of ${device}`),
      ...present.forwarding
        .filter(({ mac }) => !macs.has(mac))
        .map(
          ({ mac, destination, device }) =>
            `forwarding entry ${mac} to ${formatIp(destination)} of ${device}`,
        ),
    ],
  };
}

function portWords(
  namespace: NetworkNamespace,
  { ifindex }: { readonly ifindex: number },
  bridge: { readonly ifindex: number; readonly name: string },
): readonly string[] {
  const [answer] = namespace.attempt([getLink(ifindex, { statistics: false })]);
  const link = answer?.errno === 0 ? firstLink(answer.messages) : undefined;
  const words = link && portProblem(link, bridge);
  return words === undefined ? [] : [words];
}

/** The other ends' underlay addresses: whichever family both have. */
function isUnderlayOf(host: HostRecord | undefined, ip: IpAddress): boolean {
  return [host?.underlay.v4, host?.underlay.v6].some((each) => each !== undefined && equalIp(each, ip));
}

function hostsWanted(view: ClusterView, network: NetworkRecord, self: string): readonly Wanted[] {
  const byHost = new Map<string, Cidr[]>();
  for (const { network: of, record } of view.blocks.values()) {
    if (of !== network.name || record.host === self || !view.hosts.has(record.host)) continue;
    const list = byHost.get(record.host) ?? [];
    byHost.set(record.host, list);
    list.push(record.cidr);
  }
  return [...byHost].flatMap(([host, blocks]) => {
    const mac = vtepMac(host, network.vni);
    return [
      // In one segment a container is a neighbour, and no route leads to it.
      ...(network.mode === "l2" ? [] : blocks).map(
        (cidr): Wanted => ({
          host,
          words: `route to ${formatCidr(cidr)}`,
          isThere: ({ routes }) => routes.some(({ destination }) => equalCidr(destination, cidr)),
        }),
      ),
      ...(network.mode === "l2" ? hostAddresses(blocks) : nextHopsOf(mac, blocks)).map(
        (ip): Wanted => ({
          host,
          words: `neighbour ${formatIp(ip)} at ${mac}`,
          isThere: ({ neighbours }) => neighbours.some((each) => equalIp(each.ip, ip) && each.mac === mac),
        }),
      ),
      ...forwardingWanted(view, network, host, mac),
    ];
  });
}

function containersWanted(view: ClusterView, network: NetworkRecord, self: string): readonly Wanted[] {
  return [...view.endpointsOf(network.name).values()]
    .filter(({ host }) => host !== self && view.hosts.has(host))
    .flatMap(({ host, record: { mac, ips } }) => [
      ...forwardingWanted(view, network, host, mac),
      ...ips.map(
        (ip): Wanted => ({
          host,
          words: `neighbour ${formatIp(ip)} at ${mac}`,
          isThere: ({ neighbours }) => neighbours.some((each) => equalIp(each.ip, ip) && each.mac === mac),
        }),
      ),
    ]);
}

function forwardingWanted(
  view: ClusterView,
  network: NetworkRecord,
  host: string,
  mac: string,
): readonly Wanted[] {
  const record = view.hosts.get(host);
  const to = network.encrypted ? undefined : (record?.underlay.v4 ?? record?.underlay.v6);
  const own: Wanted = {
    host,
    words: `forwarding entry ${mac}${to ? ` to ${formatIp(to)}` : ""}`,
    isThere: ({ forwarding }) =>
      forwarding.some(
        (each) => each.mac === mac && (network.encrypted || isUnderlayOf(record, each.destination)),
      ),
  };
  if (network.mode === "l3") return [own];
  const words = `forwarding entry ${mac} of bridge ${overlayBridgeName(network.vni)}`;
  return [own, { host, words, isThere: ({ bridged }) => bridged.has(mac) }];
}

/** Ours alone: routes by their protocol, permanent entries that nobody has marked as learned elsewhere. */
function readPresent(
  namespace: NetworkNamespace,
  devices: readonly Named[],
  bridge: Named | undefined,
): Present {
  const links = bridge ? [...devices, bridge] : devices;
  const names = new Map(links.map(({ ifindex, name }) => [ifindex, name]));
  const routes = ([4, 6] as const)
    .flatMap((family) => namespace.dump(getRoutes({ family, table: 254 })).map(decodeRoute))
    .filter(({ protocol }) => protocol === routeProtocol)
    .flatMap(({ destination, gateway, ifindex }) => {
      const device = names.get(ifindex ?? 0);
      return destination && gateway && device !== undefined ? [{ destination, gateway, device }] : [];
    });
  const bridged = (bridge ? namespace.dump(getForwardingEntries({ master: bridge.ifindex })) : [])
    .map(decodeForwardingEntry)
    .filter(({ ifindex, destination }) => !destination && devices.some((each) => each.ifindex === ifindex));
  return {
    routes,
    bridged: new Set(bridged.map(({ mac }) => mac)),
    neighbours: links.flatMap(({ ifindex, name: device }) =>
      namespace
        .dump(getNeighbors({ ifindex }))
        .map(decodeNeighbor)
        .filter(({ state, flags }) => state === NeighborState.permanent && isOurs(flags))
        .map(({ ip, mac }) => ({ ip, mac: mac ?? "", device })),
    ),
    forwarding: links.flatMap(({ ifindex, name: device }) =>
      namespace
        .dump(getForwardingEntries({ ifindex }))
        .map(decodeForwardingEntry)
        .filter((entry) => entry.ifindex === ifindex && isOurs(entry.flags))
        .flatMap(({ mac, destination }) => (destination ? [{ mac, destination, device }] : [])),
    ),
  };
}

const isOurs = (flags: number) => (flags & NeighborFlag.ExternallyLearned) === 0;
