import { type Cidr, containsIp, firstIp, formatCidr, hasHostBits, lastIp } from "#net/cidr.ts";
import { addToIp, compareIp, formatIp, type IpAddress, ipBits, isLinkLocal } from "#net/ip.ts";

/** Part of a subnet from which addresses are given out. */
export interface AddressRange {
  readonly subnet: Cidr;
  /** First and last address, both included. */
  readonly start: IpAddress;
  readonly end: IpAddress;
  readonly gateway: IpAddress;
  /** Its addresses are given only to who asks for them. */
  readonly onRequest?: true;
}

/** Ranges of one family that stand for each other: an attachment gets one address of every set. Never empty. */
export type RangeSet = readonly AddressRange[];

/** A range as a configuration writes it. */
export interface RangeSpec {
  readonly subnet: Cidr;
  readonly rangeStart?: IpAddress | undefined;
  readonly rangeEnd?: IpAddress | undefined;
  readonly gateway?: IpAddress | undefined;
  readonly onRequest?: boolean | undefined;
}

/**
 * Fills in what is not said: the gateway and the start are the first address after the network's own, the end is the
 * last that is not the broadcast address (IPv4), or the last (IPv6).
 *
 * A gateway outside of the subnet is refused, unless it is link-local and so needs no subnet.
 * @throws {RangeError} in the reference plugin's words
 */
export function completeRange(spec: RangeSpec): AddressRange {
  const { subnet } = spec;
  if (subnet.address.family === 6 && unmapped(subnet.address).family === 4) {
    throw new RangeError(`IPNet IP and Mask version mismatch: ${formatCidr(subnet)}`);
  }
  if (subnet.prefixLength > ipBits(subnet.address.family) - 2) {
    throw new RangeError(`Network ${formatCidr(subnet)} too small to allocate from`);
  }
  if (hasHostBits(subnet)) {
    throw new RangeError(
      `Network has host bits set. For a subnet mask of length ${subnet.prefixLength} the network address is ${formatIp(firstIp(subnet))}, not ${formatIp(subnet.address)}`,
    );
  }
  const gateway = spec.gateway ? unmapped(spec.gateway) : addToIp(firstIp(subnet), 1);
  const start = spec.rangeStart ? unmapped(spec.rangeStart) : addToIp(firstIp(subnet), 1);
  const end = spec.rangeEnd ? unmapped(spec.rangeEnd) : lastUsable(subnet);
  const isLinkLocalGateway = gateway.family === subnet.address.family && isLinkLocal(gateway);
  if (!containsIp(subnet, gateway) && !isLinkLocalGateway) throw notIn("Gateway", gateway, subnet);
  if (!containsIp(subnet, start) || (spec.rangeEnd && containsIp(subnet, end) && compareIp(start, end) > 0)) {
    throw notIn("RangeStart", start, subnet, spec.rangeEnd && `up to ${formatIp(end)}`);
  }
  if (!containsIp(subnet, end) || compareIp(end, start) < 0) {
    throw notIn("RangeEnd", end, subnet, spec.rangeStart && `from ${formatIp(start)}`);
  }
  return { subnet, start, end, gateway, ...(spec.onRequest ? { onRequest: true } : {}) };
}

function notIn(what: string, ip: IpAddress, subnet: Cidr, limit?: string): RangeError {
  return new RangeError(
    `${what} ${formatIp(ip)} not in network ${formatCidr(subnet)}${limit ? ` ${limit}` : ""}`,
  );
}

function lastUsable(subnet: Cidr): IpAddress {
  return subnet.address.family === 4 ? addToIp(lastIp(subnet), -1) : lastIp(subnet);
}

/** An IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) as the IPv4 address that Go takes it for. */
export function unmapped(ip: IpAddress): IpAddress {
  return ip.family === 6 && ip.value >> 32n === 0xffffn ? { family: 4, value: ip.value & 0xffffffffn } : ip;
}

/** @throws {RangeError} for no range, two families, or ranges that overlap */
export function completeRangeSet(specs: readonly RangeSpec[]): RangeSet {
  const set = specs.map((spec) => completeRange(spec));
  const [first] = set;
  if (!first || commonRanges(set).length === 0) throw new RangeError("empty range set");
  if (set.some((range) => familyOf(range) !== familyOf(first)))
    throw new RangeError("mixed address families");
  for (const [index, range] of set.entries()) {
    const other = set.slice(index + 1).find((each) => rangesOverlap(range, each));
    if (other) throw new RangeError(`subnets ${formatRange(range)} and ${formatRange(other)} overlap`);
  }
  return set;
}

/** @throws {RangeError} naming the set, for one that is wrong in itself or shares addresses with another */
export function completeRangeSets(sets: readonly (readonly RangeSpec[])[]): RangeSet[] {
  if (sets.length === 0) throw new RangeError("no IP ranges specified");
  const complete = sets.map((specs, index) => {
    try {
      return completeRangeSet(specs);
    } catch (error) {
      throw error instanceof RangeError
        ? new RangeError(`invalid range set ${index}: ${error.message}`, { cause: error })
        : error;
    }
  });
  for (const [index, set] of complete.entries()) {
    const other = complete.findIndex(
      (each, otherIndex) => otherIndex > index && set.some((a) => each.some((b) => rangesOverlap(a, b))),
    );
    if (other >= 0) throw new RangeError(`range set ${index} overlaps with ${other}`);
  }
  return complete;
}

export function familyOf(range: AddressRange): 4 | 6 {
  return range.subnet.address.family;
}

/** True for an address from start to end. */
export function rangeContains(range: AddressRange, ip: IpAddress): boolean {
  return ip.family === familyOf(range) && compareIp(ip, range.start) >= 0 && compareIp(ip, range.end) <= 0;
}

function rangesOverlap(a: AddressRange, b: AddressRange): boolean {
  return rangeContains(a, b.start) || rangeContains(b, a.start);
}

/** The range of the set with this address between start and end. */
export function rangeFor(set: RangeSet, ip: IpAddress): AddressRange | undefined {
  return set.find((range) => rangeContains(range, ip));
}

/**
 * Addresses (their values) that no attachment gets: each gateway, the network's own address (in IPv6 the subnet-router
 * anycast address, RFC 4291 section 2.6.1) and the IPv4 broadcast address.
 */
export function excludedValues(set: RangeSet): ReadonlySet<bigint> {
  return new Set(
    set.flatMap(({ subnet, gateway }) => {
      const first = firstIp(subnet).value;
      const broadcast = subnet.address.family === 4 ? lastIp(subnet).value : first;
      return [first, broadcast, ...(gateway.family === subnet.address.family ? [gateway.value] : [])];
    }),
  );
}

/** "10.1.0.1-10.1.0.254" */
export function formatRange(range: AddressRange): string {
  return `${formatIp(range.start)}-${formatIp(range.end)}`;
}

/** The ranges that everybody gets addresses of. */
export function formatRangeSet(set: RangeSet): string {
  return commonRanges(set)
    .map((range) => formatRange(range))
    .join(",");
}

/** Without those whose addresses have to be asked for. */
export function commonRanges(set: RangeSet): RangeSet {
  return set.filter(({ onRequest }) => !onRequest);
}
