import { DecodeError } from "#netlink/decode-error.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";

/** struct genlmsghdr (include/uapi/linux/genetlink.h): command, version, two bytes reserved */
const headerBytes = 4;

/** GENL_ID_CTRL: the one family whose number is fixed, which tells those of all others. */
export const controllerFamily = 0x10;

export interface GenericRequest {
  /** As it reads after "Cannot" */
  readonly op: string;
  /** Number of the family on this boot: see `controller.ts` */
  readonly family: number;
  readonly command: number;
  readonly version: number;
  /** MessageFlag, besides Request and Ack */
  readonly flags?: number;
}

/** A message of a generic netlink family: its header, and attributes that the family's table has encoded. */
export function genericRequest(
  { op, family, command, version, flags = 0 }: GenericRequest,
  attributes: Uint8Array,
): Request {
  const writer = new Writer(headerBytes + attributes.length).u8(command).u8(version).u16(0);
  return { op, type: family, flags, body: writer.bytes(attributes).finish() };
}

/** The attributes of an answer. @throws {DecodeError} */
export function decodeGeneric<T>({ body }: Message, table: { decode(data: Uint8Array): T }): T {
  if (body.length < headerBytes) throw new DecodeError(`generic netlink message of ${body.length} bytes`);
  return table.decode(body.subarray(headerBytes));
}
