import { decodeAddress, getAddresses } from "#netlink/route/address.ts";
import type { InterfaceAddress } from "./address.ts";
import { type Link, listLinks } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";

export interface InventoryLink {
  readonly link: Link;
  readonly addresses: readonly InterfaceAddress[];
}

/**
 * Every link of a namespace with its addresses, by ifindex. Two dumps: not for what every container does.
 * @throws {NetlinkError}
 */
export function readInventory(namespace: NetworkNamespace): readonly InventoryLink[] {
  const addresses = namespace.dump(getAddresses()).map(decodeAddress);
  return listLinks(namespace)
    .sort((a, b) => a.ifindex - b.ifindex)
    .map((link) => ({ link, addresses: addresses.filter(({ ifindex }) => ifindex === link.ifindex) }));
}
