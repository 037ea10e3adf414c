import { type IpAddress, ipFromBytes, ipToBytes } from "#net/ip.ts";
import { type MacAddress, macFromBytes, macToBytes } from "#net/mac.ts";

/** Options of RFC 2132, and what later ones are used here. */
export const Option = {
  SubnetMask: 1,
  Router: 3,
  DomainNameServer: 6,
  HostName: 12,
  DomainName: 15,
  InterfaceMtu: 26,
  StaticRoute: 33,
  RequestedAddress: 50,
  LeaseTime: 51,
  Overload: 52,
  MessageType: 53,
  ServerIdentifier: 54,
  ParameterRequestList: 55,
  Message: 56,
  MaxMessageSize: 57,
  RenewalTime: 58,
  RebindingTime: 59,
  VendorClass: 60,
  ClientIdentifier: 61,
  UserClass: 77,
  DomainSearch: 119,
  /** RFC 3442 */
  ClasslessRoutes: 121,
} as const;

/** RFC 2132 section 9.6 */
export const MessageType = {
  Discover: 1,
  Offer: 2,
  Request: 3,
  Decline: 4,
  Ack: 5,
  Nak: 6,
  Release: 7,
} as const;

/** One message of DHCP for IPv4: RFC 2131 section 2. */
export interface DhcpMessage {
  readonly isReply: boolean;
  /** 32 bits, by which answers are told apart. */
  readonly transaction: number;
  /** Since the client began, for servers that give way to others at first. */
  readonly seconds: number;
  /** The client can't hear what is sent to its address before it has it. */
  readonly broadcast: boolean;
  /** "ciaddr": what the client has already. */
  readonly clientAddress: IpAddress;
  /** "yiaddr": what it is given. */
  readonly yourAddress: IpAddress;
  /** "chaddr" */
  readonly mac: MacAddress;
  /** By number; those of several pieces are joined (RFC 3396). */
  readonly options: ReadonlyMap<number, Uint8Array>;
}

export const noAddress: IpAddress = { family: 4, value: 0n };

const cookie = [0x63, 0x82, 0x53, 0x63];
const fixedBytes = 236;
const optionsStart = fixedBytes + cookie.length;
/** Some relays drop what is shorter: RFC 1542 section 2.1. */
const leastBytes = 300;
const end = 255;
const pad = 0;

export function encodeMessage(message: DhcpMessage): Uint8Array {
  const head = Buffer.alloc(optionsStart);
  head[0] = message.isReply ? 2 : 1;
  head[1] = 1;
  head[2] = 6;
  head.writeUInt32BE(message.transaction >>> 0, 4);
  head.writeUInt16BE(Math.min(message.seconds, 0xffff), 8);
  head.writeUInt16BE(message.broadcast ? 0x8000 : 0, 10);
  head.set(ipToBytes(message.clientAddress), 12);
  head.set(ipToBytes(message.yourAddress), 16);
  head.set(macToBytes(message.mac), 28);
  head.set(cookie, fixedBytes);
  const parts: Uint8Array[] = [head];
  for (const [code, value] of message.options) {
    for (let at = 0; at === 0 || at < value.length; at += 255) {
      const piece = value.subarray(at, at + 255);
      parts.push(Uint8Array.of(code, piece.length), piece);
    }
  }
  parts.push(Uint8Array.of(end));
  const bytes = Buffer.concat(parts);
  return bytes.length >= leastBytes ? bytes : Buffer.concat([bytes, Buffer.alloc(leastBytes - bytes.length)]);
}

/** @returns undefined for what is no such message, or is cut; never throws */
export function decodeMessage(data: Uint8Array): DhcpMessage | undefined {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (bytes.length < optionsStart || !cookie.every((byte, index) => bytes[fixedBytes + index] === byte))
    return undefined;
  const op = bytes[0];
  if ((op !== 1 && op !== 2) || bytes[1] !== 1 || bytes[2] !== 6) return undefined;
  const pieces = new Map<number, Uint8Array[]>();
  if (!readOptions(bytes.subarray(optionsStart), pieces)) return undefined;
  // The other fields may have the rest: RFC 2131 section 4.1, "file" before "sname".
  const overload = pieces.get(Option.Overload)?.[0]?.[0] ?? 0;
  if (overload & 1 && !readOptions(bytes.subarray(108, 236), pieces)) return undefined;
  if (overload & 2 && !readOptions(bytes.subarray(44, 108), pieces)) return undefined;
  const options = new Map<number, Uint8Array>();
  for (const [code, values] of pieces) options.set(code, Uint8Array.from(Buffer.concat(values)));
  return {
    isReply: op === 2,
    transaction: bytes.readUInt32BE(4),
    seconds: bytes.readUInt16BE(8),
    broadcast: (bytes.readUInt16BE(10) & 0x8000) !== 0,
    clientAddress: ipFromBytes(bytes.subarray(12, 16)),
    yourAddress: ipFromBytes(bytes.subarray(16, 20)),
    mac: macFromBytes(bytes.subarray(28, 34)),
    options,
  };
}

/** @returns false where an option reaches beyond the end; a missing end option is forgiven */
function readOptions(bytes: Uint8Array, into: Map<number, Uint8Array[]>): boolean {
  for (let at = 0; at < bytes.length; ) {
    const code = bytes[at++] ?? end;
    if (code === end) return true;
    if (code === pad) continue;
    const length = bytes[at++];
    if (length === undefined || at + length > bytes.length) return false;
    const before = into.get(code);
    const piece = bytes.subarray(at, at + length);
    if (before) before.push(piece);
    else into.set(code, [piece]);
    at += length;
  }
  return true;
}
