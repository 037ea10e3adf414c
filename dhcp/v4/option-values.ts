import { readDomainNames } from "#dhcp/domain-names.ts";
import type { Cidr } from "#net/cidr.ts";
import { networkOf } from "#net/cidr.ts";
import { type IpAddress, ipFromBytes, isUnspecified } from "#net/ip.ts";
import { Option } from "./message.ts";

type Options = ReadonlyMap<number, Uint8Array>;

/** Seconds; undefined where there is none, Infinity for 0xffffffff. */
export function readSeconds(options: Options, code: number): number | undefined {
  const value = options.get(code);
  if (value?.length !== 4) return undefined;
  const seconds = Buffer.from(value).readUInt32BE();
  return seconds === 0xffffffff ? Number.POSITIVE_INFINITY : seconds;
}

export function readAddresses(options: Options, code: number): readonly IpAddress[] {
  const value = options.get(code) ?? new Uint8Array();
  const found: IpAddress[] = [];
  for (let at = 0; at + 4 <= value.length; at += 4) found.push(ipFromBytes(value.subarray(at, at + 4)));
  return found;
}

/** Text, without the NUL that some servers put behind it. */
export function readText(options: Options, code: number): string | undefined {
  const value = options.get(code);
  return value && Buffer.from(value).toString("utf8").replace(/\0+$/, "");
}

/** Of a mask whose ones are in a row; undefined for another one, or none. */
export function readPrefixLength(options: Options): number | undefined {
  const [mask] = readAddresses(options, Option.SubnetMask);
  if (!mask) return undefined;
  for (let length = 0; length <= 32; length++) {
    if (((0xffffffffn << BigInt(32 - length)) & 0xffffffffn) === mask.value) return length;
  }
  return undefined;
}

/** Where the option for it is missing: the class of the address, RFC 950 section 2.1. */
export function classPrefixLength(address: IpAddress): number {
  const first = Number(address.value >> 24n);
  return first < 128 ? 8 : first < 192 ? 16 : 24;
}

export interface OfferedRoute {
  readonly destination: Cidr;
  /** Undefined: the destination is on the link. */
  readonly gateway: IpAddress | undefined;
}

/**
 * The routes that a server gives: option 121 alone where it is there (RFC 3442, "DHCP Client Behavior"), else those of
 * option 33 and a default route by the first router.
 */
export function readRoutes(options: Options): readonly OfferedRoute[] {
  const classless = options.get(Option.ClasslessRoutes);
  if (classless && classless.length > 0) return readClasslessRoutes(classless);
  const pairs = readAddresses(options, Option.StaticRoute);
  const routes: OfferedRoute[] = [];
  for (let at = 0; at + 1 < pairs.length; at += 2) {
    const [address, gateway] = [pairs[at], pairs[at + 1]];
    if (!address || !gateway) continue;
    const destination = networkOf({ address, prefixLength: classPrefixLength(address) });
    routes.push({ destination, gateway });
  }
  const [router] = readAddresses(options, Option.Router);
  if (router) routes.push({ destination: defaultDestination, gateway: router });
  return routes;
}

const defaultDestination: Cidr = { address: { family: 4, value: 0n }, prefixLength: 0 };

/** RFC 3442: width of the prefix, its significant bytes, the router. What is cut ends the list. */
function readClasslessRoutes(value: Uint8Array): readonly OfferedRoute[] {
  const routes: OfferedRoute[] = [];
  for (let at = 0; at < value.length; ) {
    const prefixLength = value[at++] ?? 33;
    const significant = Math.ceil(prefixLength / 8);
    if (prefixLength > 32 || at + significant + 4 > value.length) return routes;
    const address = new Uint8Array(4);
    address.set(value.subarray(at, at + significant));
    at += significant;
    const gateway = ipFromBytes(value.subarray(at, at + 4));
    at += 4;
    routes.push({
      destination: networkOf({ address: ipFromBytes(address), prefixLength }),
      gateway: isUnspecified(gateway) ? undefined : gateway,
    });
  }
  return routes;
}

/** Names of option 119: RFC 3397. */
export function readDomainSearch(options: Options): readonly string[] {
  return readDomainNames(options.get(Option.DomainSearch) ?? new Uint8Array(), { compressed: true });
}
