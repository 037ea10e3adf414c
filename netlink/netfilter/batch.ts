import { attributeTable } from "#netlink/attribute.ts";
import { u32be } from "#netlink/codec.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Request } from "#netlink/message.ts";
import type { NetlinkSocket } from "#netlink/socket.ts";
import {
  decodeNetfilter,
  encodeNetfilter,
  NetfilterFamily,
  NftMessage,
  nftMessageType,
  Subsystem,
} from "./header.ts";

/** NFNL_MSG_BATCH_* */
const beginType = 0x10;
const endType = 0x11;

/** NFNL_BATCH_*: include/uapi/linux/netfilter/nfnetlink.h */
const batchAttributes = attributeTable({ generation: [1, u32be] });
/** NFTA_GEN_*: include/uapi/linux/netfilter/nf_tables.h */
const generationAttributes = attributeTable({ id: [1, u32be] });

/** How many requests stand in front of a batch's own: subtract it from a NetlinkError's `index`. */
export const batchLead = 1;

/**
 * Makes the requests one transaction: the kernel does all of them or none.
 *
 * @param generation the ruleset that the requests were thought for (`readGeneration`). If it is another one by
 * now, the kernel answers ERESTART and does nothing; without it, any will do.
 */
export function nftBatch(requests: readonly Request[], generation?: number): readonly Request[] {
  const op = requests[0]?.op ?? "change nothing";
  const header = { family: NetfilterFamily.unspec, resourceId: Subsystem.nftables };
  const bracket = (type: number, attributes: Uint8Array): Request => ({
    op,
    type,
    flags: 0,
    body: encodeNetfilter(header, attributes),
    acknowledge: false,
  });
  return [
    bracket(beginType, batchAttributes.encode({ generation })),
    ...requests,
    bracket(endType, new Uint8Array(0)),
  ];
}

/**
 * The number of the ruleset of the socket's namespace, which every commit of anybody raises.
 * @throws {NetlinkError} EPERM; EINVAL or EOPNOTSUPP where the kernel has no nf_tables
 */
export function readGeneration(socket: NetlinkSocket): number {
  const [[message] = []] = socket.transact([
    {
      op: "read the nf_tables generation",
      type: nftMessageType(NftMessage.GetGeneration),
      flags: 0,
      body: encodeNetfilter({ family: NetfilterFamily.unspec, resourceId: 0 }, new Uint8Array(0)),
    },
  ]);
  const id = message && generationAttributes.decode(decodeNetfilter(message.body).attributes).id;
  if (id === undefined) throw new DecodeError("no generation number in the answer", ["generation"]);
  return id;
}
