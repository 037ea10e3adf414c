import { attributeTable, listOf, type TypeOf } from "#netlink/attribute.ts";
import { bytes, type Codec, text, u32be, u64be } from "#netlink/codec.ts";
import { type Message, MessageFlag, type Request } from "#netlink/message.ts";
import { decodeNetfilter, encodeNetfilter, NftMessage, nftMessageType } from "./header.ts";

/** NF_DROP, NF_ACCEPT and enum nft_verdicts: include/uapi/linux/netfilter/nf_tables.h */
export const VerdictCode = {
  Drop: 0,
  Accept: 1,
  Continue: -1,
  Break: -2,
  Jump: -3,
  Goto: -4,
  Return: -5,
} as const;

/** A signed number in network byte order. */
const i32be: Codec<number> = {
  write: (into, value) => {
    u32be.write(into, value >>> 0);
  },
  read: (payload) => u32be.read(payload) | 0,
};

/** NFTA_VERDICT_* */
const verdict = attributeTable({
  code: [1, i32be], // VerdictCode
  chain: [2, text], // of Jump and Goto
});

/** NFTA_DATA_*: one of the two */
const data = attributeTable({
  value: [1, bytes],
  verdict: [2, verdict],
});

/** NFT_SET_ELEM_* */
export const SetElementFlag = { IntervalEnd: 1, CatchAll: 2 } as const;

/** NFTA_SET_ELEM_* */
const setElement = attributeTable({
  key: [1, data],
  keyEnd: [10, data], // the last key of the range, in a set of concatenations with intervals
  data: [2, data],
  flags: [3, u32be], // SetElementFlag
  timeoutMs: [4, u64be],
  expirationMs: [5, u64be],
  userdata: [6, bytes], // comment.ts
});
export type SetElement = TypeOf<typeof setElement>;

/** NFTA_SET_ELEM_LIST_* */
const setElementList = attributeTable({
  table: [1, text],
  set: [2, text],
  setId: [4, u32be], // names a set that the same batch makes
  elements: [3, listOf(setElement)],
});

/** Which set, of which table. */
export interface SetName {
  /** NetfilterFamily of the table */
  readonly family: number;
  readonly table: string;
  readonly set: string;
}

function elementRequest(
  op: string,
  message: number,
  flags: number,
  set: SetName,
  elements?: readonly SetElement[],
): Request {
  const attributes = setElementList.encode({ table: set.table, set: set.set, elements });
  return {
    op,
    type: nftMessageType(message),
    flags,
    body: encodeNetfilter({ family: set.family, resourceId: 0 }, attributes),
  };
}

/**
 * Adds elements; for a batch. One that is there already is no error and stays as it is, comment included, unless
 * it is a map's and its data differs: EEXIST. So is a range that overlaps another. ENOENT: no such table or set.
 * Like `nft add element`.
 * @throws {RangeError} more than one attribute holds, 64 KiB in all
 */
export function addElements(op: string, set: SetName, elements: readonly SetElement[]): Request {
  return elementRequest(op, NftMessage.NewSetElements, MessageFlag.Create, set, elements);
}

/** Deletes elements by their keys, whatever their data is; for a batch. ENOENT: one is not there. Like `nft delete element`. */
export function deleteElements(op: string, set: SetName, elements: readonly SetElement[]): Request {
  return elementRequest(op, NftMessage.DeleteSetElements, 0, set, elements);
}

/** Asks for one element; not for a batch. ENOENT: it is not there. Like `nft get element`. */
export function getElement(op: string, set: SetName, element: SetElement): Request {
  return elementRequest(op, NftMessage.GetSetElements, 0, set, [element]);
}

/** Asks for all elements, for `NetlinkSocket.dump`. ENOENT: no such table or set. */
export function dumpElements(op: string, set: SetName): Request {
  return elementRequest(op, NftMessage.GetSetElements, 0, set);
}

/** The elements of an answer to `getElement` or `dumpElements`. @throws {DecodeError} */
export function decodeElements(message: Message): readonly SetElement[] {
  return setElementList.decode(decodeNetfilter(message.body).attributes).elements ?? [];
}
