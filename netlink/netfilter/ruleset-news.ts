import { attributeTable } from "#netlink/attribute.ts";
import { readU16, readU32 } from "#netlink/byte-order.ts";
import { text, u32be } from "#netlink/codec.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import { type Message, messagesIn } from "#netlink/message.ts";
import { decodeNetfilter, NftMessage, nftMessageType, Subsystem } from "./header.ts";

/** NFNLGRP_NFTABLES: include/uapi/linux/netfilter/nfnetlink.h */
export const rulesetGroup = 7;

/** One change of the ruleset, as the kernel tells the subscribers of NFNLGRP_NFTABLES when it is committed. */
export interface RulesetNews {
  /** NFT_MSG_* */
  readonly message: number;
  /** NFPROTO_* */
  readonly family: number;
  /** The table in which something was changed, or which came or went itself. */
  readonly table: string;
}

/** NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE: all of them 1 */
const pickTable = attributeTable({ table: [1, text] }).picker("table");

/** What a notification tells; the number of the new ruleset is left out. @throws {DecodeError} */
export function decodeRulesetNews(notifications: Uint8Array): readonly RulesetNews[] {
  return messagesIn(notifications).flatMap(decodeOne);
}

/** NFTA_GEN_ID: include/uapi/linux/netfilter/nf_tables.h */
const pickGeneration = attributeTable({ id: [1, u32be] }).picker("id");

/** Bytes of a struct nlmsghdr. */
const messageHeaderBytes = 16;

/** The numbers of the rulesets that came about: the last thing that is told of each commit. */
export function generationsIn(notifications: Uint8Array): readonly number[] {
  const found: number[] = [];
  // A commit of thousands of rules is thousands of messages: only their headers are looked at.
  for (let at = 0; at + messageHeaderBytes <= notifications.length; ) {
    const length = readU32(notifications, at);
    if (length < messageHeaderBytes || at + length > notifications.length) break;
    if (readU16(notifications, at + 4) === nftMessageType(NftMessage.NewGeneration)) {
      const body = notifications.subarray(at + messageHeaderBytes, at + length);
      const { id } = pickGeneration(decodeNetfilter(body).attributes);
      if (id !== undefined) found.push(id);
    }
    at += (length + 3) & ~3;
  }
  return found;
}

function decodeOne({ type, body }: Message): readonly RulesetNews[] {
  const message = type & 0xff;
  if (type >> 8 !== Subsystem.nftables || message === NftMessage.NewGeneration) return [];
  const { header, attributes } = decodeNetfilter(body);
  const { table } = pickTable(attributes);
  if (table === undefined) throw new DecodeError("no table in a notification of nf_tables", ["table"]);
  return [{ message, family: header.family, table }];
}
