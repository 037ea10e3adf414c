import { equalIp, formatIp, type IpAddress, ipBits, tryParseIp } from "./ip.ts";

/** An address with a prefix length. Host bits may be set: an interface's address and a subnet are both this. */
export interface Cidr {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/**
 * Reads `10.1.2.3/24` or `fd00::1/64`; host bits stay as they are.
 * @throws {RangeError} no prefix length, one out of range, or no valid address
 */
export function parseCidr(text: string): Cidr {
  const fail = (why: string) => new RangeError(`Cannot parse CIDR ${JSON.stringify(text)}: ${why}`);
  const slash = text.indexOf("/");
  if (slash < 0) throw fail("prefix length is missing");
  const address = tryParseIp(text.slice(0, slash));
  if (!address) throw fail(`${JSON.stringify(text.slice(0, slash))} is not an IP address`);
  const digits = text.slice(slash + 1);
  const prefixLength = /^(0|[1-9]\d{0,2})$/.test(digits) ? Number(digits) : Number.NaN;
  const bits = ipBits(address.family);
  if (!(prefixLength <= bits)) throw fail(`prefix length must be 0 to ${bits}`);
  return { address, prefixLength };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.address)}/${cidr.prefixLength}`;
}

/** Number of bits after the prefix. */
function hostBits(cidr: Cidr): bigint {
  return BigInt(ipBits(cidr.address.family) - cidr.prefixLength);
}

/** The subnet: the same prefix with all host bits zero. */
export function networkOf(cidr: Cidr): Cidr {
  return { address: firstIp(cidr), prefixLength: cidr.prefixLength };
}

/** True for 10.0.0.1/24, false for 10.0.0.0/24. */
export function hasHostBits(cidr: Cidr): boolean {
  return firstIp(cidr).value !== cidr.address.value;
}

/** Lowest address of the subnet: its network address. */
export function firstIp(cidr: Cidr): IpAddress {
  const bits = hostBits(cidr);
  return { family: cidr.address.family, value: (cidr.address.value >> bits) << bits };
}

/** Highest address of the subnet: its broadcast address in IPv4 (but see RFC 3021 for /31). */
export function lastIp(cidr: Cidr): IpAddress {
  return { family: cidr.address.family, value: firstIp(cidr).value | ((1n << hostBits(cidr)) - 1n) };
}

/** False where the families differ. */
export function containsIp(cidr: Cidr, ip: IpAddress): boolean {
  if (cidr.address.family !== ip.family) return false;
  const bits = hostBits(cidr);
  return cidr.address.value >> bits === ip.value >> bits;
}

/** True if some address is in both subnets, that is, if one contains the other. */
export function overlaps(a: Cidr, b: Cidr): boolean {
  return containsIp(a, firstIp(b)) || containsIp(b, firstIp(a));
}

/** Same address, host bits included, and same prefix length. */
export function equalCidr(a: Cidr, b: Cidr): boolean {
  return a.prefixLength === b.prefixLength && equalIp(a.address, b.address);
}

/** The address alone: /32 or /128. */
export function hostCidr(ip: IpAddress): Cidr {
  return { address: ip, prefixLength: ipBits(ip.family) };
}

/** 0.0.0.0/0 or ::/0 */
export function isDefaultRoute(cidr: Cidr): boolean {
  return cidr.prefixLength === 0 && cidr.address.value === 0n;
}
