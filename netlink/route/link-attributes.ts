import { attributeTable, repeated, type TypeOf } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import {
  bool,
  bytes,
  type Codec,
  expectAtLeast,
  hardwareAddress,
  i32,
  text,
  u8,
  u32,
} from "#netlink/codec.ts";
import type { Writer } from "#netlink/writer.ts";

/** struct ifinfomsg: include/uapi/linux/rtnetlink.h */
export interface LinkHeader {
  /** AF_UNSPEC, or AF_BRIDGE for what a bridge keeps */
  readonly family?: number;
  /** ARPHRD_*; only reported */
  readonly type?: number;
  readonly ifindex?: number;
  /** IFF_* */
  readonly flags?: number;
  /** Which of `flags` the kernel shall take over */
  readonly change?: number;
}

export const linkHeaderBytes = 16;

export function writeLinkHeader(into: Writer, header: LinkHeader): void {
  into.u8(header.family ?? 0).u8(0);
  into.u16(header.type ?? 0);
  into.i32(header.ifindex ?? 0);
  into.u32(header.flags ?? 0).u32(header.change ?? 0);
}

/** @throws {DecodeError} */
export function readLinkHeader(body: Uint8Array): Required<LinkHeader> {
  expectAtLeast(body, linkHeaderBytes);
  const view = viewOf(body);
  return {
    family: view.getUint8(0),
    type: view.getUint16(2, hostLittleEndian),
    ifindex: view.getInt32(4, hostLittleEndian),
    flags: view.getUint32(8, hostLittleEndian),
    change: view.getUint32(12, hostLittleEndian),
  };
}

/** Packets and bytes since the link was made. Counts above 2^53 lose their last digits. */
export interface LinkStatistics {
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxErrors: number;
  readonly txErrors: number;
  readonly rxDropped: number;
  readonly txDropped: number;
  readonly multicast: number;
  readonly collisions: number;
}

const statisticsFields = [
  "rxPackets",
  "txPackets",
  "rxBytes",
  "txBytes",
  "rxErrors",
  "txErrors",
  "rxDropped",
  "txDropped",
  "multicast",
  "collisions",
] as const satisfies readonly (keyof LinkStatistics)[];

/** struct rtnl_link_stats64, of which the first ten fields: the rest details them. */
const statistics: Codec<LinkStatistics> = {
  write(into, value) {
    for (const field of statisticsFields) into.u64(BigInt(value[field]));
  },
  read(payload) {
    expectAtLeast(payload, 8 * statisticsFields.length);
    const view = viewOf(payload);
    const at = (index: number) => Number(view.getBigUint64(8 * index, hostLittleEndian));
    return Object.fromEntries(
      statisticsFields.map((field, index) => [field, at(index)]),
    ) as unknown as LinkStatistics;
  },
};

const properties = attributeTable({
  altNames: [53, repeated(text)], // IFLA_ALT_IFNAME
});

/** IFLA_INET6_*; the rest of them is for reading, and many */
const inet6 = attributeTable({
  addressGeneration: [8, u8], // IN6_ADDR_GEN_MODE_*
});

/** What a link is to each address family, by AF_* */
const families = attributeTable({ inet6: [10, inet6] });

/** IN6_ADDR_GEN_MODE_*: how a link gets its link-local address */
export const AddressGeneration = { Eui64: 0, None: 1, StablePrivacy: 2, Random: 3 } as const;

/** IFLA_*: include/uapi/linux/if_link.h. All but IFLA_LINKINFO, which contains links again (`link-info.ts`). */
export const linkRows = {
  address: [1, hardwareAddress],
  broadcast: [2, hardwareAddress],
  name: [3, text],
  mtu: [4, u32],
  parent: [5, u32], // IFLA_LINK: ifindex of the link below, or of a veth's peer
  qdisc: [6, text],
  legacyStatistics: [7, bytes], // IFLA_STATS: the 32-bit counters
  master: [10, u32], // 0 takes it out
  txQueueLength: [13, u32],
  operState: [16, u8],
  linkMode: [17, u8],
  namespacePid: [19, u32],
  alias: [20, text],
  statistics: [23, statistics],
  families: [26, families], // IFLA_AF_SPEC
  group: [27, u32],
  namespaceFd: [28, u32],
  extMask: [29, u32],
  promiscuity: [30, u32],
  txQueues: [31, u32],
  rxQueues: [32, u32],
  carrier: [33, bool],
  parentNamespaceId: [37, i32], // IFLA_LINK_NETNSID: where `parent` counts, if not here
  newIfindex: [49, i32],
  minMtu: [50, u32],
  maxMtu: [51, u32],
  properties: [52, properties], // IFLA_PROP_LIST
  altName: [53, text],
  permanentAddress: [54, hardwareAddress],
  parentDevice: [56, text], // IFLA_PARENT_DEV_NAME
  parentBus: [57, text], // IFLA_PARENT_DEV_BUS_NAME
} as const;

const attributes = attributeTable(linkRows);
type Attributes = TypeOf<typeof attributes>;

/** A link's header and its attributes, as veth carries them for its peer. */
export interface LinkMessage {
  readonly header: LinkHeader;
  readonly attributes: Attributes;
}

export function writeLinkMessage(into: Writer, message: LinkMessage): void {
  writeLinkHeader(into, message.header);
  attributes.write(into, message.attributes);
}

/** @throws {DecodeError} */
export function readLinkMessage(payload: Uint8Array): LinkMessage {
  return {
    header: readLinkHeader(payload),
    attributes: attributes.decode(payload.subarray(linkHeaderBytes)),
  };
}
