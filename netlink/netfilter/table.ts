import { attributeTable } from "#netlink/attribute.ts";
import { text, u32be } from "#netlink/codec.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import type { NetlinkSocket } from "#netlink/socket.ts";
import { decodeNetfilter, encodeNetfilter, NftMessage, nftMessageType } from "./header.ts";

/** NFTA_TABLE_*: include/uapi/linux/netfilter/nf_tables.h */
const tableAttributes = attributeTable({ name: [1, text], flags: [2, u32be] });
/** NFT_TABLE_F_DORMANT */
const dormant = 1;

/**
 * True for a table whose chains the kernel does not call: `flags dormant` in nft's language. False if there is no such
 * table.
 * @param family NFPROTO_*
 * @throws {NetlinkError}
 */
export function isDormant(socket: NetlinkSocket, family: number, name: string): boolean {
  try {
    const [[message] = []] = socket.transact([
      {
        op: `read the nf_tables table ${name}`,
        type: nftMessageType(NftMessage.GetTable),
        flags: 0,
        body: encodeNetfilter({ family, resourceId: 0 }, tableAttributes.encode({ name })),
      },
    ]);
    const flags = message && tableAttributes.decode(decodeNetfilter(message.body).attributes).flags;
    return ((flags ?? 0) & dormant) !== 0;
  } catch (error) {
    if (isNetlinkError(error, Errno.ENOENT)) return false;
    throw error;
  }
}
