import type { CniResult } from "#cni/result.ts";
import type { Lease } from "#dhcp/lease.ts";
import { formatIp } from "#net/ip.ts";

/** @param priority metric of the routes */
export function resultOf(lease: Lease, priority: number | undefined): CniResult {
  const { address, gateway, nameservers, domain, search } = lease;
  return {
    interfaces: [],
    ips: [{ address, ...(gateway ? { gateway } : {}) }],
    routes: lease.routes.map((route) => ({
      dst: route.destination,
      ...(route.gateway ? { gw: route.gateway } : { scope: linkScope }),
      ...(priority === undefined ? {} : { priority }),
    })),
    dns: {
      ...(nameservers.length > 0 ? { nameservers: nameservers.map(formatIp) } : {}),
      ...(domain === undefined ? {} : { domain }),
      ...(search.length > 0 ? { search: [...search] } : {}),
    },
  };
}

/** RT_SCOPE_LINK */
const linkScope = 253;
