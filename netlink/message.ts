import { attributeTable } from "./attribute.ts";
import { readI32, readU16, readU32 } from "./byte-order.ts";
import { text, u32 } from "./codec.ts";
import { DecodeError } from "./decode-error.ts";
import { Writer } from "./writer.ts";

/** NLM_F_*: include/uapi/linux/netlink.h. The modifiers of get and of new share numbers. */
export const MessageFlag = {
  Request: 0x1,
  Multi: 0x2,
  Ack: 0x4,
  Echo: 0x8,
  DumpInterrupted: 0x10,
  Root: 0x100,
  Match: 0x200,
  Dump: 0x300,
  Replace: 0x100,
  Exclusive: 0x200,
  Create: 0x400,
  Append: 0x800,
  Bulk: 0x200,
  /** In an error: the request is not echoed in full */
  Capped: 0x100,
  /** In an error: attributes follow */
  ErrorAttributes: 0x200,
} as const;

/** NLMSG_* below NLMSG_MIN_TYPE */
export const ControlType = { Noop: 1, Error: 2, Done: 3, Overrun: 4 } as const;

export const headerBytes = 16;

/** One message to the kernel. NLM_F_REQUEST, the sequence number and the port are the socket's business. */
export interface Request {
  /** What it does, as it reads after "Cannot": `create link "br0"` */
  readonly op: string;
  /** nlmsg_type */
  readonly type: number;
  /** MessageFlag, besides Request and Ack */
  readonly flags: number;
  /** The family's header and its attributes */
  readonly body: Uint8Array;
  /** False for the brackets of an nf_tables batch, which the kernel does not answer. Default true. */
  readonly acknowledge?: boolean;
}

/** One message from the kernel. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly port: number;
  readonly body: Uint8Array;
}

/** All requests in one datagram, numbered from `firstSequence`. */
export function encodeRequests(
  requests: readonly Request[],
  firstSequence: number,
  port: number,
): Uint8Array {
  const writer = new Writer(
    requests.reduce((sum, request) => sum + headerBytes + request.body.length + 3, 0),
  );
  for (const [index, request] of requests.entries()) {
    const start = writer.length;
    const acknowledge = request.acknowledge === false ? 0 : MessageFlag.Ack;
    writer.u32(0).u16(request.type);
    writer.u16(request.flags | MessageFlag.Request | acknowledge);
    writer.u32((firstSequence + index) >>> 0).u32(port);
    writer.bytes(request.body);
    writer.patchU32(start, writer.length - start);
    writer.align();
  }
  return writer.finish();
}

/** The messages of one or more datagrams. @throws {DecodeError} where one reaches beyond the end */
export function messagesIn(data: Uint8Array): Message[] {
  const messages: Message[] = [];
  for (let at = 0; at < data.length; ) {
    if (data.length - at < headerBytes)
      throw new DecodeError(`${data.length - at} bytes left where a message starts`);
    const length = readU32(data, at);
    if (length < headerBytes || length > data.length - at) {
      throw new DecodeError(`message claims ${length} of ${data.length - at} bytes`);
    }
    messages.push({
      type: readU16(data, at + 4),
      flags: readU16(data, at + 6),
      sequence: readU32(data, at + 8),
      port: readU32(data, at + 12),
      body: data.subarray(at + headerBytes, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/** What NLMSG_ERROR and NLMSG_DONE carry. errno 0 is an acknowledgement. */
export interface Verdict {
  /** Positive. */
  readonly errno: number;
  readonly kernelMessage?: string | undefined;
  readonly offset?: number | undefined;
}

/** NLMSGERR_ATTR_* */
const errorAttributes = attributeTable({ kernelMessage: [1, text], offset: [2, u32] });

/**
 * Reads NLMSG_ERROR (errno, the request's header, the whole request unless capped, attributes) or NLMSG_DONE (errno,
 * which kernels before 2.6.32 left out, attributes).
 * @throws {DecodeError}
 */
export function decodeVerdict(message: Message): Verdict {
  const { body, type, flags } = message;
  if (type === ControlType.Done && body.length === 0) return { errno: 0 };
  if (body.length < 4) throw new DecodeError(`error message of ${body.length} bytes`);
  const errno = 0 - readI32(body);
  if ((flags & MessageFlag.ErrorAttributes) === 0) return { errno };
  let at = 4;
  if (type === ControlType.Error) {
    if (body.length < 4 + headerBytes) throw new DecodeError(`error message of ${body.length} bytes`);
    const echoed = (flags & MessageFlag.Capped) !== 0 ? headerBytes : readU32(body, 4);
    if (echoed < headerBytes || echoed > body.length - 4) {
      throw new DecodeError(`error message of ${body.length} bytes echoes ${echoed}`);
    }
    at += (echoed + 3) & ~3;
  }
  const { kernelMessage, offset } = errorAttributes.decode(body.subarray(Math.min(at, body.length)));
  return { errno, kernelMessage, offset };
}
