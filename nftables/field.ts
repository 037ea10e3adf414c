import { type Cidr, firstIp, formatCidr, lastIp, parseCidr } from "#net/cidr.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import { formatIp, type IpAddress, ipFromBytes, ipToBytes, parseIp } from "#net/ip.ts";
import { type MacAddress, macFromBytes, macToBytes, parseMac } from "#net/mac.ts";

/** Lowest and highest key that a field covers, both included, without padding. The same for a single value. */
export interface Bounds {
  readonly first: Uint8Array;
  readonly last: Uint8Array;
}

/**
 * One field of a set's key or of a map's value: how it is named and written in nft's language, what its bytes
 * are (as in a packet: network order, except where nft's type says host order), and how `nft -j` shows it.
 */
export interface Field<T> {
  /** nft's data type, as in `type ipv4_addr . inet_service`. */
  readonly type: string;
  /** For a type without length, such as integer: an expression that has it, as in `typeof iifname . @th,64,128`. */
  readonly expression?: string;
  /** Without the padding to four bytes that a concatenation has. */
  readonly byteLength: number;
  /** True if a value covers a range, so that a set with such a key needs `flags interval`. */
  readonly interval: boolean;
  encode(value: T): Bounds;
  /** @throws {RangeError} bounds that are no value of this type, as other programs could have written them */
  decode(bounds: Bounds): T;
  /** As nft's language writes it. */
  format(value: T): string;
  /** @throws {RangeError} JSON that `nft -j` does not print for such a field */
  parseJson(json: unknown): T;
}

/** A field of whatever type; `never` lets one table hold fields of several types. */
export interface AnyField {
  readonly type: string;
  readonly expression?: string;
  readonly byteLength: number;
  readonly interval: boolean;
  encode(value: never): Bounds;
  decode(bounds: Bounds): unknown;
  format(value: never): string;
  parseJson(json: unknown): unknown;
}

function single<T>(
  type: string,
  byteLength: number,
  codec: {
    readonly encode: (value: T) => Uint8Array;
    readonly decode: (bytes: Uint8Array) => T;
    readonly format: (value: T) => string;
    readonly parseJson: (json: unknown) => T;
  },
): Field<T> {
  return {
    type,
    byteLength,
    interval: false,
    encode: (value) => {
      const bytes = codec.encode(value);
      if (bytes.length !== byteLength) {
        throw new RangeError(`Cannot use ${codec.format(value)} as ${type}: must have ${byteLength} bytes`);
      }
      return { first: bytes, last: bytes };
    },
    decode: ({ first }) => codec.decode(first),
    format: codec.format,
    parseJson: codec.parseJson,
  };
}

function text(json: unknown, type: string): string {
  if (typeof json !== "string") throw new RangeError(`Cannot read ${JSON.stringify(json)} as ${type}`);
  return json;
}

/** How `nft -j` shows a prefix: `{"prefix": {"addr": "10.1.0.0", "len": 16}}`; a single address is just text. */
function prefixFromJson(json: unknown, type: string): Cidr {
  if (typeof json === "string") {
    const address = parseIp(json);
    return { address, prefixLength: address.family === 4 ? 32 : 128 };
  }
  const prefix = typeof json === "object" && json !== null && "prefix" in json ? json.prefix : undefined;
  if (typeof prefix !== "object" || prefix === null || !("addr" in prefix) || !("len" in prefix)) {
    throw new RangeError(`Cannot read ${JSON.stringify(json)} as ${type} prefix`);
  }
  return parseCidr(`${String(prefix.addr)}/${String(prefix.len)}`);
}

function address(type: string, byteLength: 4 | 16): Field<IpAddress> {
  return single(type, byteLength, {
    encode: ipToBytes,
    decode: ipFromBytes,
    format: formatIp,
    parseJson: (json) => parseIp(text(json, type)),
  });
}

function prefix(type: string, byteLength: 4 | 16): Field<Cidr> {
  return {
    type,
    byteLength,
    interval: true,
    encode: (cidr) => {
      const bounds = { first: ipToBytes(firstIp(cidr)), last: ipToBytes(lastIp(cidr)) };
      if (bounds.first.length !== byteLength) {
        throw new RangeError(`Cannot use ${formatCidr(cidr)} as ${type}: wrong address family`);
      }
      return bounds;
    },
    decode: ({ first, last }) => {
      const address = ipFromBytes(first);
      const differing = address.value ^ ipFromBytes(last).value;
      const hostBits = differing === 0n ? 0 : differing.toString(2).length;
      const cidr = { address, prefixLength: byteLength * 8 - hostBits };
      if (firstIp(cidr).value !== address.value || differing !== (1n << BigInt(hostBits)) - 1n) {
        throw new RangeError(`Cannot read ${formatIp(address)}-${formatIp(ipFromBytes(last))} as a prefix`);
      }
      return cidr;
    },
    format: formatCidr,
    parseJson: (json) => prefixFromJson(json, type),
  };
}

export const ipv4 = address("ipv4_addr", 4);
export const ipv6 = address("ipv6_addr", 16);
/** All addresses of a subnet, in an interval set. */
export const ipv4Prefix = prefix("ipv4_addr", 4);
export const ipv6Prefix = prefix("ipv6_addr", 16);

/**
 * The target address of a neighbour advertisement or solicitation (RFC 4861 sections 4.3 and 4.4): the 16 bytes from
 * the ninth on. nft 1.0.6 has no name for it.
 */
export const neighborTarget: Field<IpAddress> = {
  ...ipv6,
  type: "integer",
  expression: "@th,64,128",
  format: (ip) => `0x${ip.value.toString(16).padStart(32, "0")}`,
  parseJson: (json) => {
    if (typeof json !== "number" && typeof json !== "string") {
      throw new RangeError(`Cannot read ${JSON.stringify(json)} as a neighbour's address`);
    }
    const digits = BigInt(json).toString(16).padStart(32, "0");
    return ipFromBytes(Uint8Array.from(digits.match(/../gu) ?? [], (byte) => Number.parseInt(byte, 16)));
  },
};

export const etherAddress = single<MacAddress>("ether_addr", 6, {
  encode: macToBytes,
  decode: macFromBytes,
  format: (mac) => mac,
  parseJson: (json) => parseMac(text(json, "ether_addr")),
});

/** IFNAMSIZ bytes, filled up with zeros. */
const nameOfInterface = single<IfName>("ifname", 16, {
  encode: (name) => {
    const bytes = new Uint8Array(16);
    bytes.set(new TextEncoder().encode(name));
    return bytes;
  },
  decode: (bytes) => {
    const end = bytes.indexOf(0);
    return parseIfName(new TextDecoder().decode(bytes.subarray(0, end === -1 ? bytes.length : end)));
  },
  format: (name) => `"${name}"`,
  parseJson: (json) => parseIfName(text(json, "ifname")),
});

export const interfaceName: Field<IfName> = { ...nameOfInterface, expression: "iifname" };

/** In the machine's byte order. */
const number32 = {
  encode: (value: number) => new Uint8Array(Uint32Array.of(value).buffer),
  decode: (bytes: Uint8Array) => new Uint32Array(Uint8Array.from(bytes).buffer)[0] ?? 0,
};

/** An interface's number (ifindex), which no other gets as long as the host runs. A quarter of what a name costs a packet. */
export const interfaceIndex = single<number>("iface_index", 4, {
  ...number32,
  format: String,
  // nft prints the name where there is such an interface.
  parseJson: (json) => {
    if (typeof json !== "number") throw new RangeError(`Cannot read ${JSON.stringify(json)} as iface_index`);
    return json;
  },
});

/** A 32-bit number in the machine's byte order, as packet marks are. */
export const mark = single<number>("mark", 4, {
  ...number32,
  format: (value) => `0x${value.toString(16).padStart(8, "0")}`,
  parseJson: (json) => {
    if (typeof json !== "number") throw new RangeError(`Cannot read ${JSON.stringify(json)} as mark`);
    return json;
  },
});

/** Transport protocols whose ports can be published, with their numbers (IANA "Protocol Numbers"). */
const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const;
export type Protocol = keyof typeof protocolNumbers;
export const protocols = Object.keys(protocolNumbers) as readonly Protocol[];

function protocolOf(number: number): Protocol {
  const protocol = protocols.find((name) => protocolNumbers[name] === number);
  if (!protocol) throw new RangeError(`Cannot use protocol ${number}: must be ${protocols.join(", ")}`);
  return protocol;
}

export const inetProtocol = single<Protocol>("inet_proto", 1, {
  encode: (protocol) => Uint8Array.of(protocolNumbers[protocol]),
  decode: (bytes) => protocolOf(bytes[0] ?? 0),
  format: (protocol) => protocol,
  // nft prints the number where /etc/protocols is missing.
  parseJson: (json) => {
    const protocol = protocols.find((name) => name === json);
    return protocol ?? protocolOf(typeof json === "number" ? json : Number.NaN);
  },
});

function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >>> 8, port & 0xff);
}

function portFromBytes(bytes: Uint8Array): number {
  return ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);
}

function portFromJson(json: unknown): number {
  if (typeof json !== "number") throw new RangeError(`Cannot read ${JSON.stringify(json)} as inet_service`);
  return json;
}

export const inetPort = single<number>("inet_service", 2, {
  encode: portBytes,
  decode: portFromBytes,
  format: String,
  parseJson: portFromJson,
});

/** Ports `first` to `last`, both included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** All ports of a range, in an interval set. */
export const inetPortRange: Field<PortRange> = {
  type: "inet_service",
  byteLength: 2,
  interval: true,
  encode: ({ first, last }) => ({ first: portBytes(first), last: portBytes(last) }),
  decode: ({ first, last }) => ({ first: portFromBytes(first), last: portFromBytes(last) }),
  format: ({ first, last }) => (first === last ? String(first) : `${first}-${last}`),
  parseJson: (json) => {
    const range: unknown = typeof json === "object" && json !== null && "range" in json ? json.range : json;
    const [first, last] = Array.isArray(range) ? (range as readonly unknown[]) : [range, range];
    return { first: portFromJson(first), last: portFromJson(last) };
  },
};
