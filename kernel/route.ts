import { type Cidr, isDefaultRoute, networkOf } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import type { Request } from "#netlink/message.ts";
import {
  decodeRoute,
  getRoutes,
  getRouteTo,
  newRoute,
  type Route,
  type RouteQuestion,
} from "#netlink/route/route.ts";
import type { NetworkNamespace } from "./namespace.ts";

export { type Route, RouteType } from "#netlink/route/route.ts";

/** One route through one interface. */
export interface RouteSpec {
  readonly dst: Cidr;
  readonly gw?: IpAddress;
  /** Address of this host that packets take as their source, unless they have one. */
  readonly src?: IpAddress;
  readonly mtu?: number;
  readonly advmss?: number;
  /** Metric; the lower is taken. */
  readonly priority?: number;
  /** main (254) if absent. */
  readonly table?: number;
  /** RT_SCOPE_*; universe (0) with a gateway and link (253) without one, if absent. */
  readonly scope?: number;
}

/**
 * Request for one route. Another gateway to the same destination is put beside it, in the order given: in IPv6 the two
 * share the load, in IPv4 the second stands in for the first. Like `ip route append`.
 */
export function routeRequest(ifindex: number, route: RouteSpec): Request {
  const { dst, gw, src, mtu, advmss, priority, table, scope } = route;
  return newRoute({
    family: dst.address.family,
    ...(!isDefaultRoute(dst) && { destination: networkOf(dst) }),
    gateway: gw,
    source: src,
    ifindex,
    metric: priority,
    // 0 is "unspecified", which is main too.
    table: table || undefined,
    scope,
    mtu,
    advertisedMss: advmss,
    presence: "append",
  });
}

/** The routes through one link. Like `ip route show dev NAME table all`. @throws {NetlinkError} */
export function readRoutes(namespace: NetworkNamespace, ifindex: number): Route[] {
  return namespace.dump(getRoutes({ ifindex })).map(decodeRoute);
}

/** Every route of the namespace, of both families. Like `ip route show table all`. @throws {NetlinkError} */
export function readAllRoutes(namespace: NetworkNamespace): Route[] {
  return ([4, 6] as const).flatMap((family) => namespace.dump(getRoutes({ family })).map(decodeRoute));
}

/** Which way the kernel would send a packet, or why none. */
export type RouteAnswer =
  | { readonly found: true; readonly route: Route }
  /** In the kernel's words: "Network is unreachable" and the like. */
  | { readonly found: false; readonly reason: string };

/** Asks the kernel for the way to one address. Like `ip route get ADDRESS`. @throws {NetlinkError} for any other refusal */
export function findRoute(namespace: NetworkNamespace, question: RouteQuestion): RouteAnswer {
  const [outcome] = namespace.attempt([getRouteTo(question)]);
  const [message] = outcome?.messages ?? [];
  if (outcome?.errno === 0 && message) return { found: true, route: decodeRoute(message) };
  const reason = noWay[outcome?.errno ?? 0];
  if (reason !== undefined) return { found: false, reason };
  throw outcome?.error ?? new Error("Cannot find a route: the kernel did not answer");
}

const noWay: Readonly<Record<number, string>> = {
  [Errno.ENETUNREACH]: "network is unreachable: no route covers it",
  [Errno.EHOSTUNREACH]: "no route to host: an unreachable route covers it",
  [Errno.EACCES]: "a route prohibits it",
  [Errno.EINVAL]: "a blackhole route covers it",
};
