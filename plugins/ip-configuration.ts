import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniIp, CniResult, CniRoute } from "#cni/result.ts";
import { type Cidr, containsIp, formatCidr } from "#net/cidr.ts";
import {
  equalIp,
  formatIp,
  type IpAddress,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  parseIp,
} from "#net/ip.ts";

/** What an IPAM plugin's answer means for the interface in the container. */
export interface IpConfiguration {
  /** As the result shows them, with the place of the interface that has them. */
  readonly ips: readonly CniIp[];
  /** As the result shows them. */
  readonly routes: readonly CniRoute[];
  readonly addresses: readonly Cidr[];
  /** Of those routes, as the kernel gets them: gateways filled in, each once. */
  readonly kernelRoutes: readonly CniRoute[];
}

/**
 * The configuration of an interface whose host has no part in it: addresses and routes as the IPAM plugin gave them.
 * @param options.interfaceIndex place of the container's interface in the result
 * @throws {CniError} 7 for what the kernel would refuse when half is done
 */
export function describeIpConfiguration(
  ipam: Pick<CniResult, "ips" | "routes">,
  options: { readonly interfaceIndex: number; readonly ipamType: string | undefined },
): IpConfiguration {
  const ips = ipam.ips.map(
    ({ address, gateway }): CniIp => ({
      interface: options.interfaceIndex,
      address,
      ...(gateway === undefined ? {} : { gateway }),
    }),
  );
  refuseUnusableAddresses(ips, options.ipamType);
  const kernelRoutes = routesForKernel(ipam.routes, ips);
  refuseUnreachableRoutes(kernelRoutes, ips);
  return { ips, routes: ipam.routes, addresses: ips.map(({ address }) => address), kernelRoutes };
}

/** @throws {CniError} 7 where the IPAM plugin answered without an address */
export function refuseWithoutAddress(ipam: CniResult | undefined, ipamType: string | undefined): void {
  if (ipam === undefined || ipam.ips.length > 0) return;
  throw new CniError(ErrorCode.InvalidNetworkConfig, "IPAM plugin returned missing IP config", {
    details: `IPAM plugin ${JSON.stringify(ipamType)} answered without "ips"`,
  });
}

/**
 * What the kernel refuses in the middle of an ADD, or takes and then delivers nothing to.
 * @throws {CniError} 7
 */
export function refuseUnusableAddresses(ips: readonly CniIp[], ipamType: string | undefined): void {
  for (const [index, { address: cidr }] of ips.entries()) {
    const { address } = cidr;
    if (!isOfOneHost(address)) {
      throw unusable(`address ${formatCidr(cidr)}`, "it is none that one host can have", ipamType);
    }
    if (ips.findIndex((other) => equalIp(other.address.address, address)) < index) {
      throw unusable(`address ${formatCidr(cidr)}`, "it is there twice", ipamType);
    }
  }
}

/** The error for something in an IPAM plugin's answer. */
export function unusable(what: string, why: string, ipamType: string | undefined): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use ${what}: ${why}`, {
    details: `of IPAM plugin ${JSON.stringify(ipamType)}`,
  });
}

const broadcast = parseIp("255.255.255.255");

/** False for addresses that no single interface can have, or be reached by. */
export function isOfOneHost(ip: IpAddress): boolean {
  return !isUnspecified(ip) && !isMulticast(ip) && !isLoopback(ip) && !equalIp(ip, broadcast);
}

/** RT_SCOPE_LINK (include/uapi/linux/rtnetlink.h): what is reached without a gateway. */
const linkScope = 253;

/**
 * A route without gateway goes through the first gateway of its family, unless its scope says that it has none. Said
 * twice counts once.
 */
export function routesForKernel(routes: readonly CniRoute[], ips: readonly CniIp[]): CniRoute[] {
  const seen = new Set<string>();
  return routes.flatMap((route) => {
    const family = route.dst.address.family;
    const isDirect = (route.scope ?? 0) >= linkScope;
    const gw =
      route.gw ??
      ips.find(({ address, gateway }) => !isDirect && address.address.family === family && gateway)?.gateway;
    const whole: CniRoute = gw === undefined ? route : { ...route, gw };
    const { dst, table, priority, scope } = whole;
    const identity = JSON.stringify([formatCidr(dst), gw?.value.toString(), table, priority, scope]);
    if (seen.has(identity)) return [];
    seen.add(identity);
    return [whole];
  });
}

/** What the kernel would refuse when links and rules are there already. @throws {CniError} 7 */
export function refuseUnreachableRoutes(routes: readonly CniRoute[], ips: readonly CniIp[]): void {
  const onLink = [
    ...ips.map(({ address }) => address),
    ...routes.flatMap(({ dst, gw }) => (gw ? [] : [dst])),
  ];
  for (const { dst, gw } of routes) {
    if (gw === undefined || isLinkLocal(gw) || onLink.some((cidr) => containsIp(cidr, gw))) continue;
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use route ${formatCidr(dst)} via ${formatIp(gw)}: no address of the container is in a subnet with that gateway`,
    );
  }
}

/** The families that have an address. */
export function familiesOf(ips: readonly Pick<CniIp, "address">[]): readonly (4 | 6)[] {
  return ([4, 6] as const).filter((family) => ips.some(({ address }) => address.address.family === family));
}

/** @throws {CniError} 7 where IPv6 would be switched off by so small an MTU */
export function refuseMtuBelowIpv6(
  mtu: number | undefined,
  ips: readonly Pick<CniIp, "address">[],
  what: string,
): void {
  if (mtu === undefined || mtu >= 1280 || !familiesOf(ips).includes(6)) return;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use ${what}: "mtu" ${mtu}: must be at least 1280 for IPv6 (RFC 8200 section 5)`,
  );
}

/** An IPAM plugin that finds addresses through the container's interface, and says goodbye to its server through it. */
export function asksThroughInterface(ipamType: string | undefined): boolean {
  return ipamType === "dhcp";
}
