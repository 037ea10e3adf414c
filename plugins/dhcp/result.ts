import type { CniResult, CniRoute } from "#cni/result.ts";
import type { Lease as Lease4 } from "#dhcp/v4/lease.ts";
import type { Lease as Lease6 } from "#dhcp/v6/lease.ts";
import type { Cidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { DhcpConfig } from "./config.ts";

/** Addresses, routes and DNS of all leases, IPv4 first. */
export function resultOf(
  leases: { readonly ipv4: Lease4 | undefined; readonly ipv6: Lease6 | undefined },
  config: DhcpConfig,
): CniResult {
  const { ipv4, ipv6 } = leases;
  const { priority } = config;
  const metric = priority === undefined ? {} : { priority };
  const gateway6 = config.ipv6?.gateway;
  const nameservers = [...(ipv4?.nameservers ?? []), ...(ipv6?.nameservers ?? [])];
  const search = [...new Set([...(ipv4?.search ?? []), ...(ipv6?.search ?? [])])];
  const routes4 = (ipv4?.routes ?? []).map(
    (route): CniRoute => ({
      dst: route.destination,
      ...(route.gateway ? { gw: route.gateway } : { scope: linkScope }),
      ...metric,
    }),
  );
  return {
    interfaces: [],
    ips: [
      ...(ipv4 ? [{ address: ipv4.address, ...(ipv4.gateway ? { gateway: ipv4.gateway } : {}) }] : []),
      ...addressesOf(ipv6, config).map((address) => ({
        address,
        ...(gateway6 ? { gateway: gateway6 } : {}),
      })),
    ],
    routes: [...routes4, ...(ipv6 && gateway6 ? [{ dst: everywhere, gw: gateway6, ...metric }] : [])],
    dns: {
      ...(nameservers.length > 0 ? { nameservers: nameservers.map(formatIp) } : {}),
      ...(ipv4?.domain === undefined ? {} : { domain: ipv4.domain }),
      ...(search.length > 0 ? { search } : {}),
    },
  };
}

function addressesOf(lease: Lease6 | undefined, { ipv6 }: DhcpConfig): readonly Cidr[] {
  return (lease?.addresses ?? []).map(({ address }) => ({
    address,
    prefixLength: ipv6?.prefixLength ?? 128,
  }));
}

const everywhere: Cidr = { address: { family: 6, value: 0n }, prefixLength: 0 };

/** RT_SCOPE_LINK */
const linkScope = 253;
