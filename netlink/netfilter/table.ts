import { attributeTable } from "#netlink/attribute.ts";
import { text, u32be } from "#netlink/codec.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import type { NetlinkSocket } from "#netlink/socket.ts";
import { decodeNetfilter, encodeNetfilter, NftMessage, nftMessageType } from "./header.ts";

/** NFTA_TABLE_*: include/uapi/linux/netfilter/nf_tables.h */
const tableAttributes = attributeTable({ name: [1, text], flags: [2, u32be] });
/** NFTA_CHAIN_*: the same header */
const chainAttributes = attributeTable({ table: [1, text], name: [3, text] });
/** NFT_TABLE_F_DORMANT */
const dormant = 1;

/** A table, or a chain of it. */
export interface Place {
  /** NFPROTO_* */
  readonly family: number;
  readonly table: string;
  readonly chain?: string;
}

/** Whether it is there, whoever has made it. @throws {NetlinkError} */
export function isThere(socket: NetlinkSocket, place: Place): boolean {
  return readPlace(socket, place) !== undefined;
}

/**
 * True for a table whose chains the kernel does not call: `flags dormant` in nft's language. False if there is no such
 * table.
 * @param family NFPROTO_*
 * @throws {NetlinkError}
 */
export function isDormant(socket: NetlinkSocket, family: number, name: string): boolean {
  const body = readPlace(socket, { family, table: name });
  const flags = body && tableAttributes.decode(decodeNetfilter(body).attributes).flags;
  return ((flags ?? 0) & dormant) !== 0;
}

/** The body of the kernel's answer; undefined where there is none. */
function readPlace(socket: NetlinkSocket, { family, table, chain }: Place): Uint8Array | undefined {
  const [what, type, attributes] =
    chain === undefined
      ? [`table ${table}`, NftMessage.GetTable, tableAttributes.encode({ name: table })]
      : [`chain ${chain} of ${table}`, NftMessage.GetChain, chainAttributes.encode({ table, name: chain })];
  try {
    const [[message] = []] = socket.transact([
      {
        op: `read the nf_tables ${what}`,
        type: nftMessageType(type),
        flags: 0,
        body: encodeNetfilter({ family, resourceId: 0 }, attributes),
      },
    ]);
    return message?.body;
  } catch (error) {
    if (isNetlinkError(error, Errno.ENOENT)) return undefined;
    throw error;
  }
}
