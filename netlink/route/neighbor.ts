import { formatIp, type IpAddress } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import { attributeTable } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { bytes, expectAtLeast, hardwareAddress, i32, ip, u8, u16, u16be, u32 } from "#netlink/codec.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, familyNumber, RouteMessage } from "./constant.ts";

/** NUD_*: include/uapi/linux/neighbour.h */
export const NeighborState = {
  none: 0,
  incomplete: 0x1,
  reachable: 0x2,
  stale: 0x4,
  delay: 0x8,
  probe: 0x10,
  failed: 0x20,
  noArp: 0x40,
  permanent: 0x80,
} as const;

/** NTF_* */
export const NeighborFlag = {
  Use: 0x1,
  Self: 0x2,
  Master: 0x4,
  Proxy: 0x8,
  ExternallyLearned: 0x10,
  Offloaded: 0x20,
  Sticky: 0x40,
  Router: 0x80,
} as const;

/** struct ndmsg, shared by neighbours and forwarding entries */
export interface NeighborHeader {
  readonly family: number;
  readonly ifindex: number;
  readonly state: number;
  readonly flags: number;
}

export const neighborHeaderBytes = 12;

export function writeNeighborHeader(into: Writer, header: NeighborHeader): void {
  into.u8(header.family).zeros(3).i32(header.ifindex);
  into.u16(header.state).u8(header.flags).u8(0);
}

/** @throws {DecodeError} */
export function readNeighborHeader(body: Uint8Array): NeighborHeader {
  expectAtLeast(body, neighborHeaderBytes);
  const view = viewOf(body);
  return {
    family: view.getUint8(0),
    ifindex: view.getInt32(4, hostLittleEndian),
    state: view.getUint16(8, hostLittleEndian),
    flags: view.getUint8(10),
  };
}

/** NDA_*: include/uapi/linux/neighbour.h */
export const neighborAttributes = attributeTable({
  destination: [1, ip],
  address: [2, hardwareAddress],
  cacheInfo: [3, bytes], // struct nda_cacheinfo
  probes: [4, u32],
  vlan: [5, u16],
  port: [6, u16be], // UDP, network byte order
  vni: [7, u32],
  ifindex: [8, u32],
  master: [9, u32],
  linkNamespaceId: [10, i32],
  sourceVni: [11, u32],
  protocol: [12, u8],
  nextHopId: [13, u32],
  extendedFlags: [15, u32],
});

/** One entry of a link's ARP or NDP table, as the kernel reports it. */
export interface Neighbor {
  readonly ifindex: number;
  readonly ip: IpAddress;
  readonly mac?: MacAddress | undefined;
  /** NeighborState, one bit */
  readonly state: number;
  /** NeighborFlag */
  readonly flags: number;
}

export interface NeighborKey {
  readonly ifindex: number;
  readonly ip: IpAddress;
  /** An address to answer for, instead of one to reach */
  readonly proxy?: boolean | undefined;
}

export interface NewNeighbor extends NeighborKey {
  /** Not for a proxy */
  readonly mac?: MacAddress | undefined;
  /** NeighborState; permanent by default */
  readonly state?: number | undefined;
  readonly router?: boolean | undefined;
  /** Overwrite what is there instead of EEXIST */
  readonly replace?: boolean | undefined;
}

/** `ip neigh add|replace IP lladdr MAC dev …`, or `ip neigh add proxy IP dev …` */
export function newNeighbor(neighbor: NewNeighbor): Request {
  return {
    op: `add ${neighborText(neighbor)}`,
    type: RouteMessage.NewNeighbor,
    flags: creationFlags(neighbor.replace ? "replace" : "exclusive"),
    body: encode(neighbor),
  };
}

/** `ip neigh del IP dev …`. ENOENT where there is none. */
export function deleteNeighbor(neighbor: NeighborKey): Request {
  return {
    op: `delete ${neighborText(neighbor)}`,
    type: RouteMessage.DeleteNeighbor,
    flags: 0,
    body: encode({ ...neighbor, state: NeighborState.none }),
  };
}

export interface NeighborFilter {
  readonly family?: 4 | 6 | undefined;
  readonly ifindex?: number | undefined;
  readonly proxy?: boolean | undefined;
}

/** For `dump`: `ip neigh show [proxy] [dev …]`. The kernel filters. */
export function getNeighbors(filter: NeighborFilter = {}): Request {
  const writer = new Writer(32);
  const flags = filter.proxy ? NeighborFlag.Proxy : 0;
  writeNeighborHeader(writer, { family: familyNumber(filter.family), ifindex: 0, state: 0, flags });
  neighborAttributes.write(writer, { ifindex: filter.ifindex });
  return { op: "read neighbors", type: RouteMessage.GetNeighbor, flags: 0, body: writer.finish() };
}

/** Reads RTM_NEWNEIGH or RTM_DELNEIGH of IPv4 or IPv6. @throws {DecodeError} */
export function decodeNeighbor({ body }: Message): Neighbor {
  const { ifindex, state, flags } = readNeighborHeader(body);
  const { destination, address } = neighborAttributes.decode(body.subarray(neighborHeaderBytes));
  if (!destination) throw new DecodeError("no NDA_DST", ["neighbor"]);
  return { ifindex, ip: destination, mac: typeof address === "string" ? address : undefined, state, flags };
}

function encode(neighbor: NewNeighbor): Uint8Array {
  const flags = (neighbor.proxy ? NeighborFlag.Proxy : 0) | (neighbor.router ? NeighborFlag.Router : 0);
  const state = neighbor.state ?? NeighborState.permanent;
  const writer = new Writer(64);
  writeNeighborHeader(writer, {
    family: familyNumber(neighbor.ip.family),
    ifindex: neighbor.ifindex,
    state,
    flags,
  });
  neighborAttributes.write(writer, { destination: neighbor.ip, address: neighbor.mac });
  return writer.finish();
}

function neighborText({ ip: address, ifindex, proxy }: NeighborKey): string {
  return `${proxy ? "proxy neighbor" : "neighbor"} ${formatIp(address)} on link ${ifindex}`;
}
