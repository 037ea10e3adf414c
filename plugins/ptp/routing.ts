import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniIp, CniResult, CniRoute } from "#cni/result.ts";
import type { RouteSpec } from "#kernel/route.ts";
import { type Cidr, equalCidr, firstIp, formatCidr, hostCidr, networkOf } from "#net/cidr.ts";
import { addToIp, equalIp, formatIp, type IpAddress, ipBits } from "#net/ip.ts";
import {
  familiesOf,
  isOfOneHost,
  refuseMtuBelowIpv6,
  refuseUnreachableRoutes,
  refuseUnusableAddresses,
  refuseWithoutAddress,
  routesForKernel,
  unusable,
} from "#plugins/ip-configuration.ts";
import type { PtpConfig } from "./config.ts";

/** How the two ends of the link reach each other. It follows from the IPAM plugin's answer alone. */
export interface Routing {
  /** As the result shows them: gateways filled in. */
  readonly ips: readonly CniIp[];
  readonly routes: readonly CniRoute[];
  readonly container: {
    readonly addresses: readonly Cidr[];
    /** First the gateways, which are on the link, then what is behind them. */
    readonly routes: readonly RouteSpec[];
  };
  readonly host: {
    /** The gateways, alone: the subnet is not on the link. */
    readonly addresses: readonly Cidr[];
    /** The container's addresses. */
    readonly destinations: readonly Cidr[];
  };
  readonly families: readonly (4 | 6)[];
}

/** Place of the container's interface in the result. */
export const containerIndex = 1;

/** RT_SCOPE_LINK: include/uapi/linux/rtnetlink.h */
const linkScope = 253;

/** @throws {CniError} 7 where the IPAM plugin's answer can't work */
export function describeRouting(ipam: Pick<CniResult, "ips" | "routes">, config: PtpConfig): Routing {
  refuseWithoutAddress({ interfaces: [], dns: {}, ...ipam }, config.ipamType);
  const ips = ipam.ips.map(({ address, gateway }): CniIp & { readonly gateway: IpAddress } => ({
    interface: containerIndex,
    address,
    gateway: gateway ?? firstHost(address),
  }));
  refuseUnusableAddresses(ips, config.ipamType);
  for (const { address, gateway } of ips) {
    const refuse = (why: string) => unusable(`gateway ${formatIp(gateway)}`, why, config.ipamType);
    if (!isOfOneHost(gateway)) throw refuse("it is none that one host can have");
    if (gateway.family !== address.address.family)
      throw refuse(`${formatCidr(address)} is of the other family`);
    if (ips.some((other) => equalIp(other.address.address, gateway))) {
      throw refuse("it is the container's own address");
    }
  }
  refuseMtuBelowIpv6(config.mtu, ips, "ptp configuration");
  const gateways = distinct(ips.map(({ gateway }) => hostCidr(gateway)));
  const onLink: RouteSpec[] = gateways.map((dst) => {
    const own = ips.find(({ gateway }) => equalIp(gateway, dst.address));
    const scope = dst.address.family === 4 ? { scope: linkScope } : {};
    return { dst, ...scope, ...(own ? { src: own.address.address } : {}) };
  });
  const subnets: RouteSpec[] = ips
    .filter(({ address }) => address.prefixLength < ipBits(address.address.family))
    .map(({ address, gateway }) => ({ dst: networkOf(address), gw: gateway, src: address.address }))
    .filter(({ dst }, index, all) => all.findIndex((other) => equalCidr(other.dst, dst)) === index);
  const further = routesForKernel(ipam.routes, ips);
  refuseUnreachableRoutes(further, [...ips, ...gateways.map((address) => ({ address }))]);
  return {
    ips,
    routes: ipam.routes,
    container: {
      addresses: ips.map(({ address }) => address),
      routes: [...onLink, ...subnets, ...further],
    },
    host: { addresses: gateways, destinations: ips.map(({ address }) => hostCidr(address.address)) },
    families: familiesOf(ips),
  };
}

function firstHost(cidr: Cidr): IpAddress {
  try {
    return addToIp(firstIp(cidr), 1);
  } catch (cause) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot derive a gateway for ${formatCidr(cidr)}: its subnet has no address after the first`,
      { cause },
    );
  }
}

function distinct(cidrs: readonly Cidr[]): readonly Cidr[] {
  return cidrs.filter((each, index) => cidrs.findIndex((other) => equalCidr(other, each)) === index);
}
