import { type Cidr, firstIp, formatCidr, hostCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { compareIp, equalIp, type IpAddress } from "#net/ip.ts";
import { linkLocalOf } from "#net/link-local.ts";
import type { MacAddress } from "#net/mac.ts";
import { type End, wireguardOverhead } from "./encryption/end.ts";
import { innerAddress } from "./encryption/key.ts";
import { choosePath } from "./encryption/path.ts";
import { encryptedVtepName, overlayBridgeName, stretchedBridgeMac, vtepMac, vtepName } from "./identity.ts";
import type { HostRecord, NetworkRecord } from "./record.ts";
import type { Resident } from "./segment.ts";
import type { ClusterView, KnownBlock } from "./view.ts";

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
  /** ifindex of the device that it goes by, where that is not the one with the underlay address. */
  readonly lower?: number;
  readonly mtu: number;
  readonly mac: MacAddress;
  /** What packets of the host itself leave under. */
  readonly addresses: readonly Cidr[];
  readonly peers: readonly Peer[];
  /** Of a network that is one Ethernet segment over all hosts: the tunnel is a port of its bridge, and has no routes. */
  readonly stretch?: Stretch;
}

export interface Stretch {
  readonly bridge: IfName;
  /** Of the bridge, the same on all hosts. */
  readonly mac: MacAddress;
  /** Containers of other hosts that are reached by this tunnel, and those hosts themselves. */
  readonly endpoints: readonly Endpoint[];
  /** What this host alone is reached by in the segment, for whoever tries the way. */
  readonly own: { readonly mac: MacAddress; readonly addresses: readonly Cidr[] };
}

/** The same object as before where it is the same. */
export interface Endpoint {
  /** Of a host: that of its end of the tunnel, which its bridge takes as its own. */
  readonly isHost: boolean;
  readonly mac: MacAddress;
  readonly ips: readonly IpAddress[];
  /** The other end of the tunnel, as in `Peer`. */
  readonly underlay: IpAddress;
}

/** What the kernel of this host should have. */
export interface Desired {
  readonly tunnels: readonly Tunnel[];
  /** Packets to addresses in here that nobody has go nowhere, rather than to the default route. */
  readonly subnets: readonly Cidr[];
}

/** Another host in the network. */
export interface Peer {
  readonly hostId: string;
  /** The other end of the tunnel: on the underlay or, encrypted, inside of it. */
  readonly underlay: IpAddress;
  readonly mac: MacAddress;
  /** The host itself in the network, one of each family that it has blocks of: `hostAddresses`. */
  readonly addresses: readonly IpAddress[];
  /** Next hops, one of each family as well: `nextHopsOf`. */
  readonly gateways: readonly IpAddress[];
  readonly blocks: readonly Cidr[];
}

/**
 * What the kernel of this host should have, by what is known of the cluster. Only of networks in which this host has
 * addresses; of the others it needs nothing.
 * @param ends of this host's encryption, oldest first: without one an encrypted network has no tunnel, and so no way
 */
export function desiredTunnels(view: ClusterView, self: HostRecord, ends: readonly End[]): Desired {
  const { cluster } = view;
  if (!cluster) return { tunnels: [], subnets: [] };
  const tunnels: Tunnel[] = [];
  const subnets: Cidr[] = [];
  for (const { record } of view.networks.values()) {
    const byHost = view.blocksByHost(record.name);
    const own = byHost.get(self.id);
    if (!own) continue;
    subnets.push(...record.subnets.map(({ cidr }) => cidr));
    const common = {
      network: record.name,
      networkId: record.id,
      vni: record.vni,
      udpPort: cluster.udpPort,
      mac: vtepMac(self.id, record.vni),
      addresses: hostAddresses(own.map((block) => block.record.cidr)).map(hostCidr),
    };
    const others = [...byHost].flatMap(([id, blocks]) => {
      const host = id === self.id ? undefined : view.hosts.get(id);
      return host ? [{ host, peer: holderOf(id, blocks, record.vni) }] : [];
    });
    const mtu = mtuOf(record, view, [...byHost.keys()], self.underlay.v4 ? 4 : 6);
    const made: Tunnel[] = record.encrypted ? [...encryptedTunnels(ends, others, { ...common, mtu })] : [];
    for (const family of record.encrypted ? [] : ([4, 6] as const)) {
      const local = underlayOf(self, family);
      if (!local) continue;
      const peers = others.flatMap(({ host, peer }) => {
        const underlay = underlayFamily(self, host) === family && underlayOf(host, family);
        return underlay ? [{ ...peer, underlay }] : [];
      });
      // One device for each family that is needed; IPv4 where there is nobody yet.
      if (peers.length === 0 && family === 6 && underlayOf(self, 4)) continue;
      const name = vtepName(record.vni, family);
      made.push({ ...common, name, local, mtu: mtuOf(record, view, [...byHost.keys()], family), peers });
    }
    if (record.mode === "l3") tunnels.push(...made);
    else tunnels.push(...made.map((tunnel) => stretched(tunnel, view.residentsOf(record.name))));
  }
  return { tunnels, subnets };
}

/** The same tunnel with ways to containers rather than to hosts. */
function stretched(tunnel: Tunnel, residents: Iterable<Resident>): Tunnel {
  const { vni, networkId, peers } = tunnel;
  const hosts = new Map(peers.map(({ hostId, underlay }) => [hostId, underlay]));
  const endpoints: Endpoint[] = [];
  for (const resident of residents) {
    const underlay = hosts.get(resident.host);
    const { mac, ips } = resident;
    if (underlay) endpoints.push(endpointOf(resident, { isHost: false, mac, ips, underlay }));
  }
  for (const { blocks, mac, addresses, underlay } of peers)
    endpoints.push(endpointOf(blocks, { isHost: true, mac, ips: addresses, underlay }));
  const stretch = {
    bridge: overlayBridgeName(vni),
    mac: stretchedBridgeMac(networkId),
    endpoints,
    own: { mac: tunnel.mac, addresses: tunnel.addresses },
  };
  return { ...tunnel, addresses: [], peers: [], stretch };
}

const endpoints = new WeakMap<object, Endpoint>();

/** Made once for what it is made of, until that is reached by another host's end or another family. */
function endpointOf(of: object, wanted: Endpoint): Endpoint {
  const made = endpoints.get(of);
  if (made?.mac === wanted.mac && equalIp(made.underlay, wanted.underlay)) return made;
  endpoints.set(of, wanted);
  return wanted;
}

/** One by each of this host's ends, so that both take packets; another host is reached by one of them. */
function encryptedTunnels(
  ends: readonly End[],
  others: readonly { readonly host: HostRecord; readonly peer: Omit<Peer, "underlay"> }[],
  common: Omit<Tunnel, "name" | "local" | "lower" | "peers">,
): readonly Tunnel[] {
  const ways = others.flatMap(({ host, peer }) => {
    const path = choosePath(ends, host.wireguard?.keys.map(({ publicKey }) => publicKey) ?? []);
    return path ? [{ end: path.end, peer: { ...peer, underlay: innerAddress(path.publicKey) } }] : [];
  });
  return ends.map((end) => ({
    ...common,
    name: encryptedVtepName(common.vni, end.slot),
    local: end.address,
    lower: end.ifindex,
    peers: ways.filter((way) => way.end === end).map(({ peer }) => peer),
  }));
}

/**
 * The MTU of containers in a network: what the narrowest of its hosts leaves.
 * @param family of the underlay, where the network is not encrypted
 */
export function mtuOf(
  network: NetworkRecord,
  view: ClusterView,
  hostIds: readonly string[],
  family: 4 | 6,
): number {
  if (network.mtu !== undefined) return network.mtu;
  const hosts = hostIds.flatMap((id) => view.hosts.get(id) ?? []);
  const least = hosts.reduce((mtu, host) => (host.mtu > 0 ? Math.min(mtu, host.mtu) : mtu), Infinity);
  const narrowest = Number.isFinite(least) ? least : 1500;
  return narrowest - overheadBetween(hosts, network.encrypted, family);
}

/**
 * What is put around a packet of a container between these hosts, in bytes.
 * @param family of the underlay, where the network is not encrypted
 */
export function overheadBetween(hosts: readonly HostRecord[], encrypted: boolean, family: 4 | 6): number {
  if (!encrypted) return overhead[family];
  // VXLAN inside is over IPv6 always; what carries it is over IPv4 where all hosts have that.
  const carrier = hosts.every(({ underlay }) => underlay.v4) ? 4 : 6;
  return overhead[6] + wireguardOverhead[carrier];
}

/** The family over which two hosts talk: IPv4 if both have it. */
export function underlayFamily(a: HostRecord, b: HostRecord): 4 | 6 | undefined {
  if (a.underlay.v4 && b.underlay.v4) return 4;
  return a.underlay.v6 && b.underlay.v6 ? 6 : undefined;
}

function underlayOf({ underlay }: HostRecord, family: 4 | 6): IpAddress | undefined {
  return family === 4 ? underlay.v4 : underlay.v6;
}

/**
 * What routes to another host's blocks lead to: addresses that no ARP and no neighbour discovery asks for, as the
 * kernel is told whose they are. For IPv6 one made of the MAC address, which means something on its own tunnel alone:
 * any other that is reached by one tunnel is refused as a next hop by another (ip6_route_check_nh_onlink), and routes
 * could not move from one to the other without a gap.
 * @param mac of the other host's end of the tunnel
 */
export function nextHopsOf(mac: MacAddress, blocks: readonly Cidr[]): readonly IpAddress[] {
  return hostAddresses(blocks).map((ip) => (ip.family === 4 ? ip : linkLocalOf(mac)));
}

/** What a host calls itself in a network: the first address of its lowest block of each family. No container gets it. */
export function hostAddresses(blocks: readonly Cidr[]): readonly IpAddress[] {
  return ([4, 6] as const).flatMap((family) => {
    const [lowest] = blocks
      .filter(({ address }) => address.family === family)
      .map(firstIp)
      .sort(compareIp);
    return lowest ? [lowest] : [];
  });
}

type Holder = Omit<Peer, "underlay"> & { readonly vni: number };

const holders = new WeakMap<readonly KnownBlock[], Holder>();

/** The other host of blocks, made once: a change of one host among many makes that one anew. */
function holderOf(hostId: string, known: readonly KnownBlock[], vni: number): Holder {
  const made = holders.get(known);
  if (made?.vni === vni) return made;
  const blocks = known
    .map(({ record }) => record.cidr)
    .sort((a, b) => (formatCidr(a) < formatCidr(b) ? -1 : 1));
  const mac = vtepMac(hostId, vni);
  const addresses = hostAddresses(blocks);
  const holder = { hostId, vni, mac, addresses, gateways: nextHopsOf(mac, blocks), blocks };
  holders.set(known, holder);
  return holder;
}
