import { type Cidr, containsIp } from "#net/cidr.ts";
import { equalIp, type IpAddress } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { decodeFlow, deleteFlow, type Flow, FlowStatus, getFlows } from "#netlink/netfilter/conntrack.ts";
import { NetlinkSocket, Protocol } from "#netlink/socket.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** IPPROTO_UDP */
const udp = 17;
/** IPPROTO_TCP */
const tcp = 6;

/** One walk through the kernel's table for each port is cheaper than getting all of its UDP flows, up to this many. */
const maxFilteredPorts = 4;

const deletionsPerDatagram = 64;

/** Flows of UDP that began with a destination port of `first` to `last`. */
export interface UdpFlows {
  readonly family: 4 | 6;
  readonly first: number;
  readonly last: number;
  /** Where they began to go to; any of these. Undefined: anywhere. */
  readonly destinations?: readonly Cidr[] | undefined;
  /** Where they were led to. Undefined: anywhere. */
  readonly translatedTo?: IpAddress | undefined;
}

/**
 * Makes the kernel forget flows of UDP, so that the next packet is led by the rules of now: without an end of its own,
 * such a flow goes on as it began for as long as packets come. Like `conntrack -D -p udp --orig-port-dst PORT …`.
 * @returns how many were forgotten
 * @throws {NetlinkError} EOPNOTSUPP or EINVAL where the kernel lacks nf_conntrack_netlink
 */
export async function forgetUdpFlows(
  namespace: NetworkNamespace,
  wanted: readonly UdpFlows[],
): Promise<number> {
  if (wanted.length === 0) return 0;
  const socket = NetlinkSocket.open({ protocol: Protocol.Netfilter, namespaceFd: namespace.fd });
  try {
    let count = 0;
    for (const family of [4, 6] as const) {
      const own = wanted.filter((each) => each.family === family);
      const flows = await readFlows(socket, family, own);
      const stale = flows.filter((flow) => own.some((each) => isAmong(flow, each)));
      count += await forget(socket, stale);
    }
    return count;
  } finally {
    socket.close();
  }
}

/**
 * Makes the kernel forget connections from these addresses that began while nothing translated their source: UDP, and
 * TCP that nobody has answered yet. Sent again, their packets are led by the rules of now.
 * @returns how many were forgotten
 * @throws {NetlinkError} EOPNOTSUPP or EINVAL where the kernel lacks nf_conntrack_netlink
 */
export async function forgetUntranslatedFlows(
  namespace: NetworkNamespace,
  sources: readonly IpAddress[],
): Promise<number> {
  const socket = NetlinkSocket.open({ protocol: Protocol.Netfilter, namespaceFd: namespace.fd });
  try {
    let count = 0;
    for (const family of [4, 6] as const) {
      const own = new Set(sources.filter((each) => each.family === family).map(({ value }) => value));
      if (own.size === 0) continue;
      for (const { protocol, without } of untranslated) {
        const messages = await socket.dumpAsync(getFlows({ family, protocol, without }));
        const stale = messages
          .flatMap((message) => decodeFlow(message) ?? [])
          // Kernels before 5.8 don't know the filter.
          .filter((flow) => flow.original.protocol === protocol && ((flow.status ?? 0) & without) === 0)
          .filter(({ original }) => own.has(original.source.value));
        count += await forget(socket, stale);
      }
    }
    return count;
  } finally {
    socket.close();
  }
}

const untranslated = [
  { protocol: udp, without: FlowStatus.SourceTranslated },
  { protocol: tcp, without: FlowStatus.SourceTranslated | FlowStatus.SeenReply },
] as const;

/**
 * The addresses between which the kernel tracks connections of TCP and UDP, as they began and as answers come back.
 * Walks its whole table.
 * @throws {NetlinkError} EOPNOTSUPP or EINVAL where the kernel lacks nf_conntrack_netlink
 */
export async function listConnections(namespace: NetworkNamespace): Promise<readonly Connection[]> {
  const socket = NetlinkSocket.open({ protocol: Protocol.Netfilter, namespaceFd: namespace.fd });
  try {
    const connections: Connection[] = [];
    for (const family of [4, 6] as const)
      for (const protocol of [tcp, udp]) {
        const messages = await socket.dumpAsync(getFlows({ family, protocol }));
        // Kernels before 5.8 don't know the filter.
        const flows = messages
          .flatMap((message) => decodeFlow(message) ?? [])
          .filter(({ original }) => original.protocol === protocol);
        connections.push(
          ...flows.map(({ original, reply }) => ({ from: original.source, to: reply.source })),
        );
      }
    return connections;
  } finally {
    socket.close();
  }
}

/** Who began it, and who answers, whatever was translated between. */
export interface Connection {
  readonly from: IpAddress;
  readonly to: IpAddress;
}

async function forget(socket: NetlinkSocket, flows: readonly Flow[]): Promise<number> {
  let count = 0;
  for (let at = 0; at < flows.length; at += deletionsPerDatagram) {
    const requests = flows.slice(at, at + deletionsPerDatagram).map(deleteFlow);
    for (const { error } of await socket.attemptAsync(requests)) {
      if (error && error.errno !== Errno.ENOENT) throw error;
      if (!error) count++;
    }
  }
  return count;
}

async function readFlows(
  socket: NetlinkSocket,
  family: 4 | 6,
  wanted: readonly UdpFlows[],
): Promise<readonly Flow[]> {
  const ports = new Set<number | undefined>();
  for (const { first, last } of wanted) {
    if (last - first < maxFilteredPorts) for (let port = first; port <= last; port++) ports.add(port);
    else ports.add(undefined);
  }
  const asked = ports.has(undefined) || ports.size > maxFilteredPorts ? [undefined] : [...ports];
  if (wanted.length === 0) return [];
  const flows: Flow[] = [];
  for (const destinationPort of asked) {
    const messages = await socket.dumpAsync(getFlows({ family, protocol: udp, destinationPort }));
    flows.push(...messages.flatMap((message) => decodeFlow(message) ?? []));
  }
  return flows;
}

function isAmong({ original, reply }: Flow, wanted: UdpFlows): boolean {
  const { first, last, destinations, translatedTo } = wanted;
  return (
    original.protocol === udp &&
    original.destinationPort >= first &&
    original.destinationPort <= last &&
    (!destinations || destinations.some((cidr) => containsIp(cidr, original.destination))) &&
    (!translatedTo || equalIp(translatedTo, reply.source))
  );
}
