import { readAddresses } from "#kernel/address.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { type Route, readRoutes } from "#kernel/route.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { LinkView, RouteView } from "./model.ts";

/** A link with its addresses and routes, as `ip -d link`, `ip addr` and `ip route` would show them. */
export function viewLink(namespace: NetworkNamespace, link: Link): LinkView {
  const master = link.master === undefined ? undefined : readLink(namespace, link.master);
  return {
    name: link.name,
    ifindex: link.ifindex,
    kind: link.kind ?? "",
    up: link.up,
    operState: link.operState,
    mac: link.mac ?? "",
    mtu: link.mtu,
    master: master?.name ?? "",
    addresses: readAddresses(namespace, link.ifindex).map(({ address }) => formatCidr(address)),
    routes: readRoutes(namespace, link.ifindex).flatMap((route) => viewMainRoute(route) ?? []),
  };
}

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
