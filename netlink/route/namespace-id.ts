import { attributeTable } from "#netlink/attribute.ts";
import { expectAtLeast, i32, u32 } from "#netlink/codec.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { RouteMessage } from "./constant.ts";

/** NETNSA_*: include/uapi/linux/net_namespace.h */
const attributes = attributeTable({ id: [1, i32], pid: [2, u32], fd: [3, u32] });

/** struct rtgenmsg, padded */
const headerBytes = 4;

/** The id says that none was given yet. */
export const noNamespaceId = -1;

/**
 * Asks for the id under which the socket's namespace knows another one, given as an open file of it: what links report
 * as `parentNamespaceId`. `ip netns list-id target-nsid …`
 */
export function getNamespaceId(namespaceFd: number): Request {
  return {
    op: "read a namespace id",
    type: RouteMessage.GetNamespaceId,
    flags: 0,
    body: encode({ fd: namespaceFd }),
  };
}

/** Gives it one: a free one, or `id`. EEXIST where it has one. `ip netns set NAME ID|auto` */
export function newNamespaceId(namespaceFd: number, id = noNamespaceId): Request {
  return {
    op: "assign a namespace id",
    type: RouteMessage.NewNamespaceId,
    flags: 0,
    body: encode({ id, fd: namespaceFd }),
  };
}

/** Reads RTM_NEWNSID: the id, or -1. @throws {DecodeError} */
export function decodeNamespaceId({ body }: Message): number {
  expectAtLeast(body, headerBytes);
  return attributes.decode(body.subarray(headerBytes)).id ?? noNamespaceId;
}

function encode(values: { readonly id?: number; readonly fd: number }): Uint8Array {
  const writer = new Writer(32).zeros(headerBytes);
  attributes.write(writer, values);
  return writer.finish();
}
