import { type IpAddress, ipFromBytes } from "#net/ip.ts";
import { attributeTable } from "./attribute.ts";
import { hostLittleEndian, viewOf } from "./byte-order.ts";
import { bool, expectAtLeast } from "./codec.ts";
import { DecodeError } from "./decode-error.ts";
import type { Message, Request } from "./message.ts";
import { Writer } from "./writer.ts";

/** SOCK_DIAG_BY_FAMILY: include/uapi/linux/sock_diag.h */
const sockDiagByFamily = 20;

const afInet = 2;
const afInet6 = 10;

/** TCP_*: include/net/tcp_states.h. An unconnected UDP socket is Close. */
export const SocketState = { Established: 1, Close: 7, Listen: 10 } as const;

/** INET_DIAG_*: include/uapi/linux/inet_diag.h */
const attributes = attributeTable({ ipv6Only: [11, bool] });

const headerBytes = 72;

/** A socket of the internet families. */
export interface InetSocket {
  readonly family: 4 | 6;
  /** SocketState */
  readonly state: number;
  readonly address: IpAddress;
  readonly port: number;
  /** Of an IPv6 socket: takes no IPv4. */
  readonly ipv6Only: boolean;
  /** Link that it is bound to; 0: none */
  readonly ifindex: number;
  readonly userId: number;
  /** As in /proc/PID/fd: `socket:[INODE]` */
  readonly inode: number;
}

/**
 * For `dump` of a socket of Protocol.SockDiag: `ss -4 -t state …`. ENOENT where the kernel has no inet_diag for the
 * protocol.
 * @param filter.protocol IPPROTO_*
 * @param filter.states SocketState
 */
export function getInetSockets(filter: {
  readonly family: 4 | 6;
  readonly protocol: number;
  readonly states: readonly number[];
}): Request {
  const { family, protocol, states } = filter;
  // struct inet_diag_req_v2 with an empty struct inet_diag_sockid, which is not looked at in a dump
  const writer = new Writer(56)
    .u8(family === 4 ? afInet : afInet6)
    .u8(protocol)
    .u8(0)
    .u8(0)
    .u32(states.reduce((mask, state) => mask | (1 << state), 0))
    .zeros(48);
  return {
    op: `read the sockets of IPv${family} with protocol ${protocol}`,
    type: sockDiagByFamily,
    flags: 0,
    body: writer.finish(),
  };
}

/** Reads struct inet_diag_msg. @throws {DecodeError} */
export function decodeInetSocket({ body }: Message): InetSocket {
  expectAtLeast(body, headerBytes);
  const view = viewOf(body);
  const number = view.getUint8(0);
  if (number !== afInet && number !== afInet6) throw new DecodeError(`socket of address family ${number}`);
  const family = number === afInet ? 4 : 6;
  return {
    family,
    state: view.getUint8(1),
    port: view.getUint16(4),
    address: ipFromBytes(body.subarray(8, family === 4 ? 12 : 24)),
    ifindex: view.getUint32(40, hostLittleEndian),
    userId: view.getUint32(64, hostLittleEndian),
    inode: view.getUint32(68, hostLittleEndian),
    ipv6Only: attributes.decode(body.subarray(headerBytes)).ipv6Only ?? false,
  };
}
