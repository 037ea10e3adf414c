import { type IpAddress, ipFromBytes, ipToBytes } from "#net/ip.ts";
import { type DhcpOption, decodeOptions, encodeOptions, Option } from "./message.ts";
import { readStatus, type Status } from "./status.ts";

/** A set of addresses that a server gives and extends as one: IA_NA, RFC 8415 section 21.4. */
export interface Association {
  /** 32 bits, which tell the client's associations apart. */
  readonly id: number;
  /** T1, seconds; 0 leaves it to the client, Infinity is never. */
  readonly renewSeconds: number;
  /** T2 */
  readonly rebindSeconds: number;
  readonly addresses: readonly AssociatedAddress[];
  readonly status: Status;
}

/** RFC 8415 section 21.6 */
export interface AssociatedAddress {
  readonly address: IpAddress;
  readonly preferredSeconds: number;
  /** 0: the client has it no longer. */
  readonly validSeconds: number;
  readonly status: Status;
}

const [associationBytes, addressBytes] = [12, 24];

/** What a client says of an association: its addresses, without a wish for times (section 18.2.4). */
export function encodeAssociation(id: number, addresses: readonly IpAddress[]): DhcpOption {
  const head = Buffer.alloc(associationBytes);
  head.writeUInt32BE(id, 0);
  const options = addresses.map((address) => ({
    code: Option.AssociatedAddress,
    value: Buffer.concat([ipToBytes(address), Buffer.alloc(8)]),
  }));
  return { code: Option.Association, value: Buffer.concat([head, encodeOptions(options)]) };
}

/**
 * The associations of a message. Those that contradict themselves are left out, as section 21.4 and 21.6 say: T1 after
 * T2, an address that is preferred for longer than it is valid.
 */
export function readAssociations(options: readonly DhcpOption[]): readonly Association[] {
  return options.flatMap(({ code, value }) => (code === Option.Association ? (decode(value) ?? []) : []));
}

function decode(value: Uint8Array): Association | undefined {
  if (value.length < associationBytes) return undefined;
  const bytes = Buffer.from(value);
  const options = decodeOptions(bytes.subarray(associationBytes));
  const [renewSeconds, rebindSeconds] = [readTime(bytes, 4), readTime(bytes, 8)];
  if (!options || (renewSeconds > rebindSeconds && rebindSeconds > 0)) return undefined;
  return {
    id: bytes.readUInt32BE(0),
    renewSeconds,
    rebindSeconds,
    addresses: options.flatMap((option) =>
      option.code === Option.AssociatedAddress ? (decodeAddress(option.value) ?? []) : [],
    ),
    status: readStatus(options),
  };
}

function decodeAddress(value: Uint8Array): AssociatedAddress | undefined {
  if (value.length < addressBytes) return undefined;
  const bytes = Buffer.from(value);
  const options = decodeOptions(bytes.subarray(addressBytes));
  const [preferredSeconds, validSeconds] = [readTime(bytes, 16), readTime(bytes, 20)];
  if (!options || preferredSeconds > validSeconds) return undefined;
  return {
    address: ipFromBytes(bytes.subarray(0, 16)),
    preferredSeconds,
    validSeconds,
    status: readStatus(options),
  };
}

/** RFC 8415 section 7.7: all ones is for ever. */
function readTime(bytes: Buffer, at: number): number {
  const seconds = bytes.readUInt32BE(at);
  return seconds === 0xffffffff ? Number.POSITIVE_INFINITY : seconds;
}
