import { isDefaultRoute } from "#net/cidr.ts";
import { type IpAddress, parseIp } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { decodeRoute, getRoutes, getRouteTo, type Route, RouteTable } from "#netlink/route/route.ts";
import { type Link, readLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** Addresses of documentation, to which nobody has a route of their own (RFC 5737, RFC 3849). */
const anywhere: readonly IpAddress[] = [parseIp("192.0.2.1"), parseIp("2001:db8::1")];

/**
 * The link through which the default route leads, that of IPv4 first. Asks for one route of each family; only where
 * that is none of all destinations, for the main table.
 * @throws {NetlinkError}
 */
export function readDefaultRouteLink(namespace: NetworkNamespace): Link | undefined {
  for (const destination of anywhere) {
    const route = findDefaultRoute(namespace, destination);
    const ifindex = route?.ifindex ?? route?.nextHops?.find((hop) => hop.ifindex !== undefined)?.ifindex;
    const link = ifindex === undefined ? undefined : readLink(namespace, ifindex);
    if (link) return link;
  }
  return undefined;
}

function findDefaultRoute(namespace: NetworkNamespace, destination: IpAddress): Route | undefined {
  const [outcome] = namespace.attempt([getRouteTo({ destination, fibMatch: true })]);
  if (outcome === undefined || without.includes(outcome.errno)) return undefined;
  if (outcome.errno !== 0) throw outcome.error;
  const found = outcome.messages.map(decodeRoute).find(isDefault);
  // A more particular route, as of a VPN that leads half of the world elsewhere.
  return (
    found ??
    namespace
      .dump(getRoutes({ family: destination.family, table: RouteTable.main }))
      .map(decodeRoute)
      .filter(isDefault)
      .sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0))[0]
  );
}

const without: readonly number[] = [
  Errno.ENETUNREACH,
  Errno.EHOSTUNREACH,
  Errno.EACCES,
  Errno.EINVAL,
  Errno.EAFNOSUPPORT,
];

function isDefault({ destination }: Route): boolean {
  return destination === undefined || isDefaultRoute(destination);
}
