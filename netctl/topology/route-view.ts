import type { Route } from "#kernel/route.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { RouteView } from "#netctl/inspect/model.ts";

/** RT_TABLE_MAIN and RTN_UNICAST: not the host and broadcast routes that every address brings. */
function isMainUnicast({ table, type, destination }: Route): boolean {
  return table === 254 && type === 1 && !isLinkLocalOrMulticast(destination);
}

function isLinkLocalOrMulticast(destination: Route["destination"]): boolean {
  return destination?.address.family === 6 && destination.address.value >> 118n === 0xfe80n >> 6n;
}

/** As people look at it; undefined for one that `ip route` does not show them. */
export function viewMainRoute(route: Route): RouteView | undefined {
  if (!isMainUnicast(route)) return undefined;
  const { destination, gateway, metric } = route;
  return {
    destination: destination === undefined ? "default" : formatCidr(destination),
    gateway: gateway === undefined ? "" : formatIp(gateway),
    metric: metric ?? 0,
  };
}
