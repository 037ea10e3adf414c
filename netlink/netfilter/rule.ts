import { attributeTable, listOf, type TypeOf } from "#netlink/attribute.ts";
import { bytes, text, u32be } from "#netlink/codec.ts";
import { type Message, MessageFlag, type Request } from "#netlink/message.ts";
import { decodeNetfilter, encodeNetfilter, NftMessage, nftMessageType } from "./header.ts";

/** NFTA_DATA_VALUE */
const data = attributeTable({ value: [1, bytes] });

/** NFTA_PAYLOAD_*, NFTA_CMP_*, NFTA_META_*, NFTA_IMMEDIATE_*: the few expressions that are written here. */
const payload = attributeTable({
  destinationRegister: [1, u32be],
  base: [2, u32be],
  offset: [3, u32be],
  length: [4, u32be],
  sourceRegister: [5, u32be],
  checksumType: [6, u32be],
  checksumOffset: [7, u32be],
});
const compare = attributeTable({ sourceRegister: [1, u32be], operation: [2, u32be], data: [3, data] });
const meta = attributeTable({ destinationRegister: [1, u32be], key: [2, u32be] });
const immediate = attributeTable({ destinationRegister: [1, u32be], data: [2, data] });

/** NFTA_EXPR_* */
const expression = attributeTable({ name: [1, text], data: [2, bytes] });
export type Expression = TypeOf<typeof expression>;

const table = attributeTable({ name: [1, text] });
/** NFTA_HOOK_* */
const hook = attributeTable({ number: [1, u32be], priority: [2, u32be] });
/** NFTA_CHAIN_* */
const chain = attributeTable({
  table: [1, text],
  name: [3, text],
  hook: [4, hook],
  policy: [5, u32be],
  type: [7, text],
});
/** NFTA_RULE_* */
const rule = attributeTable({ table: [1, text], chain: [2, text], expressions: [4, listOf(expression)] });

const register = 1;
/** NFT_PAYLOAD_*_HEADER */
export const PayloadBase = { Network: 1, Transport: 2 } as const;
/** NFT_META_L4PROTO */
const metaL4Protocol = 16;
/** NFT_PAYLOAD_CSUM_INET */
const internetChecksum = 1;

const nested = 0x8000;

function named(name: string, attributes: Uint8Array): Expression {
  return { name, data: attributes };
}

/** Matches bytes of a header. Like `ip daddr 127.0.0.11`. */
export function matchPayload(base: number, offset: number, value: Uint8Array): readonly Expression[] {
  return [
    named("payload", payload.encode({ destinationRegister: register, base, offset, length: value.length })),
    named("cmp", compare.encode({ sourceRegister: register, operation: 0, data: { value } })),
  ];
}

/** Like `meta l4proto udp`. */
export function matchProtocol(protocol: number): readonly Expression[] {
  return [
    named("meta", meta.encode({ destinationRegister: register, key: metaL4Protocol })),
    named(
      "cmp",
      compare.encode({ sourceRegister: register, operation: 0, data: { value: Uint8Array.of(protocol) } }),
    ),
  ];
}

/** Like `udp dport set 65053`: the transport header's checksum, at `checksumOffset`, is kept right. */
export function setTransport(
  offset: number,
  value: Uint8Array,
  checksumOffset: number,
): readonly Expression[] {
  return [
    named("immediate", immediate.encode({ destinationRegister: register, data: { value } })),
    named(
      "payload",
      payload.encode({
        sourceRegister: register,
        base: PayloadBase.Transport,
        offset,
        length: value.length,
        checksumType: internetChecksum,
        checksumOffset,
      }),
    ),
  ];
}

/** The value that `immediate` loads; undefined for any other expression. @throws {DecodeError} */
export function immediateValue({ name, data: attributes }: Expression): Uint8Array | undefined {
  return name === "immediate" && attributes ? immediate.decode(attributes).data?.value : undefined;
}

/** The packet is none of connection tracking's business. Like `notrack`. */
export const notrack: readonly Expression[] = [{ name: "notrack" }];

export interface TableName {
  /** NetfilterFamily */
  readonly family: number;
  readonly name: string;
}

function request(
  op: string,
  message: number,
  flags: number,
  family: number,
  attributes: Uint8Array,
): Request {
  return {
    op,
    type: nftMessageType(message),
    flags,
    body: encodeNetfilter({ family, resourceId: 0 }, attributes),
  };
}

/** For a batch; one that is there is no error. Like `nft add table`. */
export function addTable({ family, name }: TableName): Request {
  return request(
    `add table "${name}"`,
    NftMessage.NewTable,
    MessageFlag.Create,
    family,
    table.encode({ name }),
  );
}

/** For a batch, with all that is in it. ENOENT: it is not there. Like `nft delete table`. */
export function deleteTable({ family, name }: TableName): Request {
  return request(`delete table "${name}"`, NftMessage.DeleteTable, 0, family, table.encode({ name }));
}

/** A chain that packets come to by themselves, of type filter, with policy accept; for a batch. */
export function addBaseChain(
  { family, name }: TableName,
  at: { readonly chain: string; readonly hook: number; readonly priority: number },
): Request {
  const attributes = chain.encode({
    table: name,
    name: at.chain,
    hook: { number: at.hook, priority: at.priority >>> 0 },
    policy: 1,
    type: "filter",
  });
  return request(`add chain "${at.chain}"`, NftMessage.NewChain, MessageFlag.Create, family, attributes);
}

/** For a batch. Like `nft add rule`. */
export function addRule(
  { family, name }: TableName,
  chainName: string,
  expressions: readonly Expression[],
): Request {
  const list = expressions.map(({ name, data }) =>
    data === undefined ? { name } : { name, unknown: [{ type: 2, flags: nested, payload: data }] },
  );
  const attributes = rule.encode({ table: name, chain: chainName, expressions: list });
  return request(
    "add a rule",
    NftMessage.NewRule,
    MessageFlag.Create | MessageFlag.Append,
    family,
    attributes,
  );
}

/** The rules of a chain, for `NetlinkSocket.dump`. Like `nft list chain`. */
export function dumpRules({ family, name }: TableName, chainName: string): Request {
  const attributes = rule.encode({ table: name, chain: chainName });
  return request(`list table "${name}"`, NftMessage.GetRule, 0, family, attributes);
}

/** The expressions of one rule of an answer to `dumpRules`. @throws {DecodeError} */
export function decodeRule(message: Message): readonly Expression[] {
  return rule.decode(decodeNetfilter(message.body).attributes).expressions ?? [];
}
