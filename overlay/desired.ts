import { type Cidr, firstIp, formatCidr, hostCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { compareIp, type IpAddress } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import { vtepMac, vtepName } from "./identity.ts";
import type { HostRecord, NetworkRecord } from "./record.ts";
import type { ClusterView } from "./view.ts";

/** Bytes that VXLAN puts before a frame of a container: outer IP and UDP, VXLAN (RFC 7348), inner Ethernet. */
export const overhead = { 4: 50, 6: 70 } as const;

/** This host's end of one network's tunnel, and the ways to the other ends. All of it is here or nothing. */
export interface Tunnel {
  readonly network: string;
  readonly networkId: string;
  readonly name: IfName;
  readonly vni: number;
  /** Underlay address of this host. */
  readonly local: IpAddress;
  readonly udpPort: number;
  readonly mtu: number;
  readonly mac: MacAddress;
  /** What packets of the host itself leave under. */
  readonly addresses: readonly Cidr[];
  readonly peers: readonly Peer[];
  /** Parts of the network's subnets that nobody has: packets to them go nowhere, rather than to the default route. */
  readonly subnets: readonly Cidr[];
}

/** Another host in the network. */
export interface Peer {
  readonly hostId: string;
  readonly underlay: IpAddress;
  readonly mac: MacAddress;
  /** Next hops: the first address of its lowest block of each family. Nobody has it, and no ARP asks for it. */
  readonly gateways: readonly IpAddress[];
  readonly blocks: readonly Cidr[];
}

/**
 * What the kernel of this host should have, by what is known of the cluster. Only of networks in which this host has
 * addresses; of the others it needs nothing.
 */
export function desiredTunnels(view: ClusterView, self: HostRecord): readonly Tunnel[] {
  const cluster = view.cluster;
  if (!cluster) return [];
  const blocksByNetwork = groupBlocks(view);
  const tunnels: Tunnel[] = [];
  for (const { record } of view.networks.values()) {
    const byHost = blocksByNetwork.get(record.name) ?? new Map<string, readonly Cidr[]>();
    const own = byHost.get(self.id);
    if (!own) continue;
    for (const family of [4, 6] as const) {
      const local = underlayOf(self, family);
      if (!local) continue;
      const peers = [...byHost.entries()]
        .filter(([id]) => id !== self.id)
        .flatMap(([id, blocks]) => peerOf(view.hosts.get(id), blocks, { self, family, vni: record.vni }));
      // One device for each family that is needed; IPv4 where there is nobody yet.
      if (peers.length === 0 && family === 6 && underlayOf(self, 4)) continue;
      tunnels.push({
        network: record.name,
        networkId: record.id,
        name: vtepName(record.vni, family),
        vni: record.vni,
        local,
        udpPort: cluster.udpPort,
        mtu: mtuOf(record, view, [...byHost.keys()], family),
        mac: vtepMac(self.id, record.vni),
        addresses: gatewaysOf(own).map(hostCidr),
        peers,
        subnets: record.subnets.map(({ cidr }) => cidr),
      });
    }
  }
  return tunnels;
}

/** The MTU of containers in a network: what the narrowest of its hosts leaves. */
export function mtuOf(
  network: NetworkRecord,
  view: ClusterView,
  hostIds: readonly string[],
  family: 4 | 6,
): number {
  if (network.mtu !== undefined) return network.mtu;
  const mtus = hostIds.flatMap((id) => view.hosts.get(id)?.mtu ?? []).filter((mtu) => mtu > 0);
  return Math.min(...(mtus.length > 0 ? mtus : [1500])) - overhead[family];
}

/** The family over which two hosts talk: IPv4 if both have it. */
export function underlayFamily(a: HostRecord, b: HostRecord): 4 | 6 | undefined {
  if (a.underlay.v4 && b.underlay.v4) return 4;
  return a.underlay.v6 && b.underlay.v6 ? 6 : undefined;
}

function underlayOf({ underlay }: HostRecord, family: 4 | 6): IpAddress | undefined {
  return family === 4 ? underlay.v4 : underlay.v6;
}

function peerOf(
  host: HostRecord | undefined,
  blocks: readonly Cidr[],
  { self, family, vni }: { readonly self: HostRecord; readonly family: 4 | 6; readonly vni: number },
): readonly Peer[] {
  if (!host || underlayFamily(self, host) !== family) return [];
  const underlay = underlayOf(host, family);
  if (!underlay) return [];
  return [{ hostId: host.id, underlay, mac: vtepMac(host.id, vni), gateways: gatewaysOf(blocks), blocks }];
}

function gatewaysOf(blocks: readonly Cidr[]): readonly IpAddress[] {
  return ([4, 6] as const).flatMap((family) => {
    const [lowest] = blocks
      .filter(({ address }) => address.family === family)
      .map(firstIp)
      .sort(compareIp);
    return lowest ? [lowest] : [];
  });
}

/** network → host → its blocks, in order. */
function groupBlocks(view: ClusterView): ReadonlyMap<string, ReadonlyMap<string, readonly Cidr[]>> {
  const networks = new Map<string, Map<string, Cidr[]>>();
  for (const { network, record } of view.blocks.values()) {
    const hosts = networks.get(network) ?? new Map<string, Cidr[]>();
    networks.set(network, hosts);
    const blocks = hosts.get(record.host) ?? [];
    hosts.set(record.host, blocks);
    blocks.push(record.cidr);
  }
  for (const hosts of networks.values())
    for (const blocks of hosts.values()) blocks.sort((a, b) => (formatCidr(a) < formatCidr(b) ? -1 : 1));
  return networks;
}
