/** An IPv4 or IPv6 address as a number, so that ranges and comparisons are arithmetic. No zone. */
export interface IpAddress {
  readonly family: 4 | 6;
  /** Host's reading of the network-order bytes: 10.0.0.1 is 0x0a000001n. */
  readonly value: bigint;
}

const max = { 4: (1n << 32n) - 1n, 6: (1n << 128n) - 1n } as const;

/** Address length in bits. */
export function ipBits(family: 4 | 6): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/**
 * Reads dotted-quad IPv4 or any RFC 4291 section 2.2 form of IPv6. Strict: no leading zeros in IPv4 (some
 * readers take them as octal), no `%zone`, no short IPv4 forms, no surrounding space.
 * An IPv4-mapped `::ffff:10.0.0.1` stays an IPv6 address.
 * @throws {RangeError}
 */
export function parseIp(text: string): IpAddress {
  const ip = tryParseIp(text);
  if (!ip) throw new RangeError(`Cannot parse IP address ${JSON.stringify(text)}`);
  return ip;
}

/** Like `parseIp`, with `undefined` for what it would refuse. */
export function tryParseIp(text: string): IpAddress | undefined {
  const isV6 = text.includes(":");
  const value = isV6 ? valueOfIpv6(text) : valueOfIpv4(text);
  return value === undefined ? undefined : { family: isV6 ? 6 : 4, value };
}

const longestQuad = "255.255.255.255".length;

/** Digit by digit: an expression would make an array and five texts for each of the thousands that are read. */
function valueOfIpv4(text: string): bigint | undefined {
  if (text.length > longestQuad) return undefined;
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x2e && digits > 0 && dots < 3) {
      value = value * 256 + octet;
      octet = 0;
      digits = 0;
      dots++;
    } else {
      const digit = code - 0x30;
      const hasLeadingZero = digits > 0 && octet === 0;
      if (!(digit >= 0 && digit <= 9) || hasLeadingZero) return undefined;
      octet = octet * 10 + digit;
      digits++;
      if (octet > 255) return undefined;
    }
  }
  return dots === 3 && digits > 0 ? BigInt(value * 256 + octet) : undefined;
}

function valueOfIpv6(text: string): bigint | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head = "", tail] = halves;
  const before = groupsOf(head, tail === undefined);
  const after = tail === undefined ? [] : groupsOf(tail, true);
  if (!before || !after) return undefined;
  const missing = 8 - before.length - after.length;
  // "::" stands for at least one group: RFC 5952 section 4.2.2 would not write one, but RFC 4291 allows it.
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  let value = 0n;
  for (const group of before) value = (value << 16n) | BigInt(group);
  value <<= BigInt(16 * missing);
  for (const group of after) value = (value << 16n) | BigInt(group);
  return value;
}

/** 16-bit groups of one side of "::"; the last may be a dotted quad if the address ends there. */
function groupsOf(text: string, endsAddress: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else if (endsAddress && index === parts.length - 1) {
      const v4 = valueOfIpv4(part);
      if (v4 === undefined) return undefined;
      groups.push(Number(v4 >> 16n), Number(v4 & 0xffffn));
    } else {
      return undefined;
    }
  }
  return groups;
}

/** Dotted quad, or the canonical IPv6 text of RFC 5952 (IPv4-mapped addresses end in a dotted quad, section 5). */
export function formatIp(ip: IpAddress): string {
  if (ip.family === 4) return formatQuad(Number(ip.value));
  if (ip.value >> 32n === 0xffffn) return `::ffff:${formatQuad(Number(ip.value & max[4]))}`;
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((ip.value >> shift) & 0xffffn));
  const { start, length } = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (length < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}

function formatQuad(value: number): string {
  return `${Math.floor(value / 0x1000000)}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** The first of the longest runs of zero groups (RFC 5952 section 4.2.3). */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== 0) {
      start = index + 1;
    } else if (index + 1 - start > best.length) {
      best = { start, length: index + 1 - start };
    }
  }
  return best;
}

/** 4 or 16 bytes, network order. */
export function ipToBytes(ip: IpAddress): Uint8Array {
  const bytes = new Uint8Array(ip.family === 4 ? 4 : 16);
  let rest = ip.value;
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

/**
 * @param bytes 4 or 16 bytes, network order
 * @throws {RangeError} any other length
 */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new RangeError(`Cannot read IP address from ${bytes.length} bytes: must be 4 or 16`);
  }
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return { family: bytes.length === 4 ? 4 : 6, value };
}

export function equalIp(a: IpAddress, b: IpAddress): boolean {
  return a.family === b.family && a.value === b.value;
}

/** Order for sorting: all of IPv4 before all of IPv6, then by number. */
export function compareIp(a: IpAddress, b: IpAddress): number {
  if (a.family !== b.family) return a.family - b.family;
  return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
}

/**
 * The address `n` further on; `n` may be negative.
 * @throws {RangeError} beyond either end of the family's address space
 */
export function addToIp(ip: IpAddress, n: bigint | number): IpAddress {
  const value = ip.value + BigInt(n);
  if (value < 0n || value > max[ip.family]) {
    throw new RangeError(`Cannot add ${n} to ${formatIp(ip)}: beyond the IPv${ip.family} address space`);
  }
  return { family: ip.family, value };
}

/** 0.0.0.0 or :: */
export function isUnspecified(ip: IpAddress): boolean {
  return ip.value === 0n;
}

/** 127.0.0.0/8 (RFC 1122 section 3.2.1.3) or ::1 (RFC 4291 section 2.5.3). */
export function isLoopback(ip: IpAddress): boolean {
  return ip.family === 4 ? ip.value >> 24n === 127n : ip.value === 1n;
}

/** 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291 section 2.7). */
export function isMulticast(ip: IpAddress): boolean {
  return ip.family === 4 ? ip.value >> 28n === 0xen : ip.value >> 120n === 0xffn;
}

/** 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291 section 2.5.6). */
export function isLinkLocal(ip: IpAddress): boolean {
  return ip.family === 4 ? ip.value >> 16n === 0xa9fen : ip.value >> 118n === 0x3fan;
}
