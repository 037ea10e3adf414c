/** Options of RFC 8415 section 21, and what later ones are used here. */
export const Option = {
  ClientIdentifier: 1,
  ServerIdentifier: 2,
  /** A set of addresses ("identity association for non-temporary addresses"). */
  Association: 3,
  TemporaryAssociation: 4,
  /** An address, inside of an association. */
  AssociatedAddress: 5,
  OptionRequest: 6,
  Preference: 7,
  ElapsedTime: 8,
  RelayMessage: 9,
  Authentication: 11,
  ServerUnicast: 12,
  StatusCode: 13,
  RapidCommit: 14,
  UserClass: 15,
  VendorClass: 16,
  InterfaceId: 18,
  ReconfigureMessage: 19,
  ReconfigureAccept: 20,
  /** RFC 3646 */
  NameServers: 23,
  /** RFC 3646 */
  DomainSearch: 24,
  PrefixDelegation: 25,
  DelegatedPrefix: 26,
  /** RFC 4075 */
  SntpServers: 31,
  /** RFC 4704 */
  FullyQualifiedName: 39,
  /** RFC 5908 */
  NtpServer: 56,
  /** RFC 8415 section 21.24 */
  LongestSolicitPause: 82,
} as const;

/** RFC 8415 section 7.3 */
export const MessageType = {
  Solicit: 1,
  Advertise: 2,
  Request: 3,
  Confirm: 4,
  Renew: 5,
  Rebind: 6,
  Reply: 7,
  Release: 8,
  Decline: 9,
} as const;

export interface DhcpOption {
  readonly code: number;
  readonly value: Uint8Array;
}

/** One message between a client and servers: RFC 8415 section 8. */
export interface DhcpMessage {
  readonly type: number;
  /** 24 bits, by which answers are told apart. */
  readonly transaction: number;
  /** In their order; some are there more than once. */
  readonly options: readonly DhcpOption[];
}

const headBytes = 4;

export function encodeMessage({ type, transaction, options }: DhcpMessage): Uint8Array {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(transaction & 0xffffff, 0);
  head[0] = type;
  return Buffer.concat([head, encodeOptions(options)]);
}

/** @returns undefined for what is cut, and for relays' messages, which look otherwise; never throws */
export function decodeMessage(data: Uint8Array): DhcpMessage | undefined {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const type = bytes[0];
  if (bytes.length < headBytes || type === undefined || type === 0 || type === 12 || type === 13)
    return undefined;
  const options = decodeOptions(bytes.subarray(headBytes));
  return options && { type, transaction: bytes.readUInt32BE(0) & 0xffffff, options };
}

/** Number, length and value of each: RFC 8415 section 21.1. */
export function encodeOptions(options: readonly DhcpOption[]): Uint8Array {
  return Buffer.concat(
    options.flatMap(({ code, value }) => {
      const head = Buffer.alloc(4);
      head.writeUInt16BE(code, 0);
      head.writeUInt16BE(value.length, 2);
      return [head, value];
    }),
  );
}

/** @returns undefined where one reaches beyond the end */
export function decodeOptions(data: Uint8Array): readonly DhcpOption[] | undefined {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const options: DhcpOption[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + 4 > bytes.length) return undefined;
    const [code, length] = [bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2)];
    at += 4;
    if (at + length > bytes.length) return undefined;
    options.push({ code, value: Uint8Array.from(bytes.subarray(at, at + length)) });
    at += length;
  }
  return options;
}

/** The first of that number. */
export function findOption(options: readonly DhcpOption[], code: number): Uint8Array | undefined {
  return options.find((option) => option.code === code)?.value;
}
