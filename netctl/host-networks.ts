import { readAllAddresses } from "#kernel/address.ts";
import { type Link, listLinks, readLink, removeLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { RouteType, readAllRoutes } from "#kernel/route.ts";
import { type Cidr, networkOf } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";

/** A subnet that the host reaches, and the link by which it does. */
export interface HostSubnet {
  readonly cidr: Cidr;
  readonly link: string;
}

/**
 * Subnets that a new network must not hide: those of the host's addresses and routes in both families, without
 * default and loopback routes, link-local and multicast ranges. Ports of bridges have none of their own.
 */
export function hostSubnets(host: NetworkNamespace): readonly HostSubnet[] {
  const ordinary = new Map(
    listLinks(host)
      .filter(({ master, type }) => master === undefined && type !== loopbackType)
      .map(({ ifindex, name }) => [ifindex, name]),
  );
  const addresses = readAllAddresses(host).map(({ address, ifindex }) => ({
    cidr: networkOf(address),
    ifindex,
  }));
  // What is unreachable on purpose leads to no link, or in IPv6 to lo; somebody means it all the same.
  const routes = readAllRoutes(host).flatMap(({ destination, ifindex, nextHops = [], type }) => {
    if (destination === undefined) return [];
    const isRefused = type >= RouteType.blackhole;
    return [{ cidr: destination, ifindex: isRefused ? undefined : (ifindex ?? nextHops[0]?.ifindex) }];
  });
  return [...addresses, ...routes].flatMap(({ cidr, ifindex }) => {
    const link = ifindex === undefined ? "a route that refuses it" : ordinary.get(ifindex);
    return link === undefined || !isOrdinary(cidr) ? [] : [{ cidr, link }];
  });
}

/** ARPHRD_LOOPBACK: include/uapi/linux/if_arp.h */
const loopbackType = 772;

function isOrdinary({ address, prefixLength }: Cidr): boolean {
  const first = address.value >> (address.family === 4 ? 24n : 112n);
  if (prefixLength === 0) return false;
  return address.family === 4 ? first < 224n : first < 0xfe80n;
}

/** The host's link of that name; undefined if there is none. */
export function readHostLink(host: NetworkNamespace, name: string): Link | undefined {
  return readLink(host, parseIfName(name));
}

/** Removes a bridge that netctl made for a network, unless something is connected to it. Does nothing if it is gone. */
export async function removeOwnBridge(host: NetworkNamespace, name: string): Promise<void> {
  const bridge = readHostLink(host, name);
  if (bridge?.kind !== "bridge" || listLinks(host, { master: bridge.ifindex }).length > 0) return;
  await removeLink(host, bridge.ifindex);
}
