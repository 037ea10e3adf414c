import { formatIp, type IpAddress, ipBits } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { newNeighbor } from "#netlink/route/neighbor.ts";
import { decodeRoute, deleteRoute, getRouteTo, newRoute } from "#netlink/route/route.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** A way to one address by a link on which it is. */
export interface HostRoute {
  readonly destination: IpAddress;
  readonly ifindex: number;
  /** The host's address in what it sends there; the kernel's choice if absent. */
  readonly source?: IpAddress | undefined;
}

/** Another route to the very address is there. */
export class RouteExistsError extends Error {
  constructor(destination: IpAddress, cause: unknown) {
    super(`Cannot add a route to ${formatIp(destination)}: the host has another one to this very address`, {
      cause,
    });
    this.name = "RouteExistsError";
  }
}

/** Like `ip route add ADDRESS dev NAME src SOURCE`. One that is there by the same link is fine. @throws {RouteExistsError} */
export function addHostRoute(namespace: NetworkNamespace, route: HostRoute): void {
  try {
    namespace.transact([newRoute(describe(route))]);
  } catch (error) {
    if (!isNetlinkError(error, Errno.EEXIST)) throw error;
    if (linkTowards(namespace, route.destination) !== route.ifindex) {
      throw new RouteExistsError(route.destination, error);
    }
  }
}

/** @returns false if there was none by that link @throws {NetlinkError} */
export function removeHostRoute(namespace: NetworkNamespace, route: HostRoute): boolean {
  const { source: _, ...key } = describe(route);
  try {
    namespace.transact([deleteRoute(key)]);
    return true;
  } catch (error) {
    if (isNetlinkError(error, Errno.ESRCH, Errno.ENODEV)) return false;
    throw error;
  }
}

function describe({ destination, ifindex, source }: HostRoute) {
  const { family } = destination;
  return {
    family,
    destination: { address: destination, prefixLength: ipBits(family) },
    ifindex,
    source,
  };
}

/** By which link a packet to that address would leave; undefined where there is no way. */
export function linkTowards(namespace: NetworkNamespace, destination: IpAddress): number | undefined {
  const [outcome] = namespace.attempt([getRouteTo({ destination })]);
  const [message] = outcome?.errno === 0 ? outcome.messages : [];
  return message && decodeRoute(message).ifindex;
}

/** Says for good which MAC address a neighbour has. Like `ip neigh replace ADDRESS lladdr MAC dev NAME nud permanent`. */
export function setNeighbor(
  namespace: NetworkNamespace,
  neighbor: { readonly ifindex: number; readonly ip: IpAddress; readonly mac: MacAddress },
): void {
  namespace.transact([newNeighbor({ ...neighbor, replace: true })]);
}
