import { decodeAddress, getAddresses } from "#netlink/route/address.ts";
import { decodeLink, getLinks } from "#netlink/route/link.ts";
import { decodeNamespaceId, getNamespaceId, noNamespaceId } from "#netlink/route/namespace-id.ts";
import type { InterfaceAddress } from "./address.ts";
import { type Link, type LinkDetails, listLinks } from "./link.ts";
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

/** Every link with all that the kernel says of it, counters included: for people, not for what containers wait for. @throws {NetlinkError} */
export function listLinkDetails(namespace: NetworkNamespace): readonly LinkDetails[] {
  return namespace
    .dump(getLinks())
    .map(decodeLink)
    .sort((a, b) => a.ifindex - b.ifindex);
}

/**
 * The number under which `namespace` knows another one: what its links have as `parentNamespaceId`.
 * @returns undefined where it knows it not: then none of its links has its other end there
 * @throws {NetlinkError}
 */
export function readNamespaceId(namespace: NetworkNamespace, other: NetworkNamespace): number | undefined {
  const [messages = []] = namespace.transact([getNamespaceId(other.fd)]);
  const [id = noNamespaceId] = messages.map(decodeNamespaceId);
  return id === noNamespaceId ? undefined : id;
}
