import { equalCidr } from "#net/cidr.ts";
import { isLinkLocal } from "#net/ip.ts";
import { addressRequest, type InterfaceAddress, readAddresses } from "./address.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { addRoutes, readRoutesOf } from "./policy-routing.ts";
import type { Route } from "./route.ts";

/** Which addresses a link has, and which routes lead through it. */
export interface LinkAddressing {
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
}

/** @param table from which the routes are; main if absent */
export function readLinkAddressing(
  namespace: NetworkNamespace,
  ifindex: number,
  table?: number,
): LinkAddressing {
  const addresses = readAddresses(namespace, ifindex).filter(({ address }) => !isLinkLocal(address.address));
  return { addresses, routes: readRoutesOf(namespace, ifindex, table) };
}

/**
 * Gives a link back what it has lost by going down and up again, which the kernel does with it when it gets a master or
 * loses it: IPv6 addresses, and all routes but those that come with an address.
 * @param table for the routes; main if absent
 */
export function restoreLinkAddressing(
  namespace: NetworkNamespace,
  ifindex: number,
  { addresses, routes }: LinkAddressing,
  table?: number,
): void {
  const present = readAddresses(namespace, ifindex);
  const lost = addresses.filter(({ address }) => !present.some((each) => equalCidr(each.address, address)));
  namespace.transact(lost.map(({ address }) => addressRequest(ifindex, address, { noDad: true })));
  addRoutes(
    namespace,
    routes.map((route) => ({ ...route, table })),
  );
}
