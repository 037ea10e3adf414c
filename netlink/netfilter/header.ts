import { viewOf } from "#netlink/byte-order.ts";
import { expectAtLeast } from "#netlink/codec.ts";
import { Writer } from "#netlink/writer.ts";

/** NFPROTO_*: include/uapi/linux/netfilter.h */
export const NetfilterFamily = { unspec: 0, inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const;
export type NetfilterFamily = (typeof NetfilterFamily)[keyof typeof NetfilterFamily];

/** NFNL_SUBSYS_*: include/uapi/linux/netfilter/nfnetlink.h */
export const Subsystem = { conntrack: 1, nftables: 10 } as const;

/** NFT_MSG_*: include/uapi/linux/netfilter/nf_tables.h */
export const NftMessage = {
  NewTable: 0,
  GetTable: 1,
  DeleteTable: 2,
  NewChain: 3,
  GetChain: 4,
  DeleteChain: 5,
  NewRule: 6,
  GetRule: 7,
  DeleteRule: 8,
  DeleteSet: 11,
  NewSetElements: 12,
  GetSetElements: 13,
  DeleteSetElements: 14,
  NewGeneration: 15,
  GetGeneration: 16,
} as const;

/** nlmsg_type of an nf_tables message */
export function nftMessageType(message: number): number {
  return (Subsystem.nftables << 8) | message;
}

/** struct nfgenmsg */
export interface NetfilterHeader {
  /** NetfilterFamily */
  readonly family: number;
  /** The subsystem in a batch's brackets, the low half of the generation in replies, else 0. */
  readonly resourceId: number;
}

const headerBytes = 4;

/** struct nfgenmsg (version 0), then the attributes. */
export function encodeNetfilter(header: NetfilterHeader, attributes: Uint8Array): Uint8Array {
  return new Writer(headerBytes + attributes.length)
    .u8(header.family)
    .u8(0)
    .u16be(header.resourceId)
    .bytes(attributes)
    .finish();
}

/** @throws {DecodeError} */
export function decodeNetfilter(body: Uint8Array): {
  readonly header: NetfilterHeader;
  readonly attributes: Uint8Array;
} {
  expectAtLeast(body, headerBytes);
  const view = viewOf(body);
  return {
    header: { family: view.getUint8(0), resourceId: view.getUint16(2) },
    attributes: body.subarray(headerBytes),
  };
}
