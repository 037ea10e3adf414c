import { type IpAddress, isUnspecified } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { decodeInetSocket, getInetSockets, type InetSocket, SocketState } from "#netlink/inet-diag.ts";
import { NetlinkSocket, Protocol } from "#netlink/socket.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** IPPROTO_* and the state in which a socket waits for whoever comes. */
const waiting = {
  tcp: { protocol: 6, state: SocketState.Listen },
  udp: { protocol: 17, state: SocketState.Close },
  sctp: { protocol: 132, state: SocketState.Listen },
} as const;

export type ListenerProtocol = keyof typeof waiting;

/** A socket that takes connections, or datagrams from anybody. */
export interface Listener {
  readonly protocol: ListenerProtocol;
  /** As the program bound it: `::` may stand for all of IPv4 as well. An IPv4 address where it was written as IPv6. */
  readonly address: IpAddress;
  readonly port: number;
  /** Families whose packets it gets. */
  readonly families: readonly (4 | 6)[];
  /** As in /proc/PID/fd: `socket:[INODE]` */
  readonly inode: number;
}

/**
 * The namespace's listening sockets. Like `ss -lntu`, but the kernel looks at nothing else, so that a host with many
 * connections answers as fast.
 * @throws {NetlinkError}
 */
export function readListeners(
  namespace: NetworkNamespace,
  protocols: readonly ListenerProtocol[],
): readonly Listener[] {
  const socket = NetlinkSocket.open({ protocol: Protocol.SockDiag, namespaceFd: namespace.fd });
  try {
    return protocols.flatMap((protocol) =>
      ([4, 6] as const).flatMap((family) => readFamily(socket, protocol, family)),
    );
  } finally {
    socket.close();
  }
}

function readFamily(socket: NetlinkSocket, protocol: ListenerProtocol, family: 4 | 6): readonly Listener[] {
  const { protocol: number, state } = waiting[protocol];
  try {
    const messages = socket.dump(getInetSockets({ family, protocol: number, states: [state] }));
    return messages
      .map(decodeInetSocket)
      .filter(({ port }) => port !== 0)
      .map((each) => describe(each, protocol));
  } catch (error) {
    // Without inet_diag for the protocol; without SCTP there is none, and nobody listens.
    if (isNetlinkError(error, Errno.ENOENT, Errno.EOPNOTSUPP, Errno.EAFNOSUPPORT)) return [];
    throw error;
  }
}

function describe(
  { family, address, port, ipv6Only, inode }: InetSocket,
  protocol: ListenerProtocol,
): Listener {
  const mapped = family === 6 ? unmapped(address) : undefined;
  if (mapped) return { protocol, address: mapped, port, families: [4], inode };
  const takesBoth = family === 6 && !ipv6Only && isUnspecified(address);
  return { protocol, address, port, families: takesBoth ? [4, 6] : [family], inode };
}

/** `::ffff:192.0.2.1` is 192.0.2.1 (RFC 4291 section 2.5.5.2). */
function unmapped({ value }: IpAddress): IpAddress | undefined {
  return value >> 32n === 0xffffn ? { family: 4, value: value & 0xffffffffn } : undefined;
}
