import {
  type Cidr,
  containsIp,
  firstIp,
  formatCidr,
  hasHostBits,
  lastIp,
  networkOf,
  parseCidr,
} from "#net/cidr.ts";
import {
  addToIp,
  compareIp,
  equalIp,
  formatIp,
  type IpAddress,
  ipBits,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  parseIp,
} from "#net/ip.ts";
import { UsageFailure } from "#netctl/failure.ts";

export interface SubnetWords {
  readonly subnets: readonly string[];
  readonly gateways: readonly string[];
  readonly ipRanges: readonly string[];
  readonly auxAddresses: readonly string[];
}

export interface AddressSpan {
  readonly first: IpAddress;
  readonly last: IpAddress;
}

export interface SubnetDefinition {
  readonly subnet: Cidr;
  readonly gateway?: IpAddress;
  /** The part of the subnet from which containers get addresses; absent means all of it. */
  readonly range?: Cidr;
  /** Addresses that no container gets, by the name of who has them. */
  readonly aux: Readonly<Record<string, IpAddress>>;
}

/** What was asked for; `subnet` with address zero stands for "a subnet of this size, from the pools". */
export type SubnetRequest = SubnetDefinition;

/**
 * Understands `--subnet`, `--gateway`, `--ip-range` and `--aux-address`, in any order.
 * @throws {UsageFailure} with the flag and its value
 */
export function parseSubnets(words: SubnetWords): readonly SubnetRequest[] {
  const subnets = words.subnets.map((text) => parsePrefix(text, "--subnet"));
  refuseUnusable(subnets);
  const given = subnets.filter((subnet) => !isSizeOnly(subnet));
  const gateways = words.gateways.map((text) => parseHost(text, "--gateway", given));
  const ranges = words.ipRanges.map((text) => parseRange(text, given));
  const aux = words.auxAddresses.map((text) => parseAux(text, given));
  refuseTwice(aux);
  return subnets.map((subnet) => {
    const gateway = only(
      gateways.filter((ip) => containsIp(subnet, ip)),
      subnet,
      "--gateway",
    );
    const range = only(
      ranges.filter((cidr) => containsIp(subnet, firstIp(cidr))),
      subnet,
      "--ip-range",
    );
    const definition: SubnetDefinition = {
      subnet,
      ...(gateway === undefined ? {} : { gateway }),
      ...(range === undefined ? {} : { range }),
      aux: Object.fromEntries(aux.filter(([, ip]) => containsIp(subnet, ip))),
    };
    if (!isSizeOnly(subnet) && spansOf(definition).length === 0) {
      throw new UsageFailure(
        `Cannot use --subnet ${formatCidr(subnet)}: gateway and --aux-address leave no address for a container`,
      );
    }
    return definition;
  });
}

/**
 * Which families a network has: what its subnets say, else what its flags say.
 * @throws {UsageFailure}
 */
export function chooseFamilies(
  subnets: readonly SubnetRequest[],
  wants: { readonly ipv4: boolean; readonly ipv6: boolean },
): { readonly ipv4: boolean; readonly ipv6: boolean } {
  const has = (family: 4 | 6) => subnets.some(({ subnet }) => subnet.address.family === family);
  if (!wants.ipv4 && has(4)) throw new UsageFailure("Cannot use an IPv4 --subnet without IPv4");
  const ipv6 = wants.ipv6 || has(6);
  // An IPv6 subnet alone is a wish for a network without IPv4.
  const ipv4 = wants.ipv4 && (has(4) || subnets.length === 0);
  if (!ipv4 && !ipv6) throw new UsageFailure("Cannot create a network without IPv4 and without IPv6");
  return { ipv4, ipv6 };
}

/** `0.0.0.0/24` and `::/64`: a subnet of that size, wherever there is room, as Docker has it. */
export function isSizeOnly(subnet: Cidr): boolean {
  return isUnspecified(subnet.address);
}

/** The gateway that host-local takes where none is given: the first address after the subnet's own. */
export function gatewayOf({ subnet, gateway }: SubnetDefinition): IpAddress {
  return gateway ?? addToIp(firstIp(subnet), 1);
}

/** The addresses for containers: the range without auxiliary addresses, as spans in order. The gateway may be in one. */
export function spansOf(definition: SubnetDefinition): readonly AddressSpan[] {
  const whole = usable(definition.subnet, definition.range ?? definition.subnet);
  const excluded = Object.values(definition.aux)
    .filter((ip) => compareIp(ip, whole.first) >= 0 && compareIp(ip, whole.last) <= 0)
    .sort(compareIp);
  const spans: AddressSpan[] = [];
  let next = whole.first;
  for (const ip of excluded) {
    if (compareIp(next, ip) < 0) spans.push({ first: next, last: addToIp(ip, -1) });
    next = addToIp(ip, 1);
  }
  if (compareIp(next, whole.last) <= 0) spans.push({ first: next, last: whole.last });
  const gateway = gatewayOf(definition);
  // host-local takes a span of the gateway alone for one that is always full.
  return spans.filter(({ first, last }) => !(equalIp(first, last) && equalIp(first, gateway)));
}

/** What a container gets only if it asks for the address: the rest of the subnet, without auxiliary addresses. */
export function requestSpansOf(definition: SubnetDefinition): readonly AddressSpan[] {
  const { subnet, range } = definition;
  if (range === undefined) return [];
  const all = spansOf({ subnet, aux: definition.aux, gateway: gatewayOf(definition) });
  const [first, last] = [firstIp(range), lastIp(range)];
  return all.flatMap((span): readonly AddressSpan[] => {
    const before = { first: span.first, last: lesser(span.last, addToIp(first, -1)) };
    const after = { first: greater(span.first, addToIp(last, 1)), last: span.last };
    return [
      ...(compareIp(first, firstIp(subnet)) > 0 ? [before] : []),
      ...(compareIp(last, lastIp(subnet)) < 0 ? [after] : []),
    ].filter(({ first, last }) => compareIp(first, last) <= 0);
  });
}

const lesser = (a: IpAddress, b: IpAddress) => (compareIp(a, b) < 0 ? a : b);
const greater = (a: IpAddress, b: IpAddress) => (compareIp(a, b) > 0 ? a : b);

/** The first and last address of a range that a container can have: not the subnet's own, nor its broadcast address. */
function usable(subnet: Cidr, range: Cidr): AddressSpan {
  const [first, last] = [firstIp(range), lastIp(range)];
  const isMany = compareIp(first, last) < 0;
  return {
    first: equalIp(first, firstIp(subnet)) && isMany ? addToIp(first, 1) : first,
    last: subnet.address.family === 4 && equalIp(last, lastIp(subnet)) && isMany ? addToIp(last, -1) : last,
  };
}

function refuseUnusable(subnets: readonly Cidr[]): void {
  for (const [index, subnet] of subnets.entries()) {
    const { family } = subnet.address;
    if (subnets.slice(0, index).some((other) => other.address.family === family)) {
      throw new UsageFailure(
        `Cannot use --subnet ${formatCidr(subnet)}: a network has one IPv${family} subnet`,
      );
    }
    const longest = ipBits(family) - 2;
    if (subnet.prefixLength > longest) {
      throw new UsageFailure(
        `Cannot use --subnet ${formatCidr(subnet)}: too small, a prefix length of at most ${longest} is needed`,
      );
    }
    if (subnet.prefixLength === 0) {
      throw new UsageFailure(`Cannot use --subnet ${formatCidr(subnet)}: it is all there is`);
    }
    const reserved = reservedFor(subnet);
    if (reserved !== undefined)
      throw new UsageFailure(`Cannot use --subnet ${formatCidr(subnet)}: these are ${reserved} addresses`);
  }
}

/** What nobody can have in a network; undefined for what containers can. */
function reservedFor({ address }: Cidr): string | undefined {
  if (isUnspecified(address)) return undefined;
  if (isLoopback(address)) return "loopback";
  if (isMulticast(address)) return "multicast";
  return address.family === 6 && isLinkLocal(address) ? "link-local" : undefined;
}

function parseHost(text: string, flag: string, subnets: readonly Cidr[]): IpAddress {
  const ip = usage(`Cannot use ${flag} ${text}`, () => parseIp(text));
  if (subnets.some((subnet) => isHostOf(subnet, ip))) return ip;
  throw new UsageFailure(`Cannot use ${flag} ${formatIp(ip)}: no matching subnet for it${remedy(subnets)}`);
}

function parseRange(text: string, subnets: readonly Cidr[]): Cidr {
  const range = parsePrefix(text, "--ip-range");
  if (subnets.some((subnet) => containsIp(subnet, firstIp(range)) && containsIp(subnet, lastIp(range))))
    return range;
  throw new UsageFailure(
    `Cannot use --ip-range ${formatCidr(range)}: no matching subnet for it${remedy(subnets)}`,
  );
}

/** `name=address`. */
function parseAux(text: string, subnets: readonly Cidr[]): readonly [name: string, ip: IpAddress] {
  const [, name, address] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || address === undefined) {
    throw new UsageFailure(`Cannot use --aux-address ${text}: expected NAME=ADDRESS`);
  }
  const ip = usage(`Cannot use --aux-address ${text}`, () => parseIp(address));
  if (subnets.some((subnet) => isHostOf(subnet, ip))) return [name, ip];
  throw new UsageFailure(`Cannot use --aux-address ${text}: no matching subnet for it${remedy(subnets)}`);
}

function refuseTwice(aux: readonly (readonly [name: string, ip: IpAddress])[]): void {
  for (const [index, [name, ip]] of aux.entries()) {
    const earlier = aux.slice(0, index).find(([other, its]) => other === name || equalIp(its, ip));
    if (earlier === undefined) continue;
    throw new UsageFailure(
      `Cannot use --aux-address ${name}=${formatIp(ip)}: ${earlier[0]}=${formatIp(earlier[1])} was given already`,
    );
  }
}

function parsePrefix(text: string, flag: string): Cidr {
  const cidr = usage(`Cannot use ${flag} ${text}`, () => parseCidr(text));
  if (hasHostBits(cidr)) {
    throw new UsageFailure(`Cannot use ${flag} ${text}: it should be ${formatCidr(networkOf(cidr))}`);
  }
  return cidr;
}

function isHostOf(subnet: Cidr, ip: IpAddress): boolean {
  const broadcast = subnet.address.family === 4 && equalIp(ip, lastIp(subnet));
  return containsIp(subnet, ip) && !equalIp(ip, firstIp(subnet)) && !broadcast;
}

const remedy = (subnets: readonly Cidr[]) =>
  subnets.length === 0 ? "; give --subnet too" : `; the subnets are ${subnets.map(formatCidr).join(", ")}`;

function only<T>(found: readonly T[], subnet: Cidr, flag: string): T | undefined {
  if (found.length > 1) throw new UsageFailure(`Cannot use ${flag} twice for subnet ${formatCidr(subnet)}`);
  return found[0];
}

function usage<T>(action: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageFailure(`${action}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
