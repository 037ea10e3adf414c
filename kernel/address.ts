import type { Cidr } from "#net/cidr.ts";
import { lastIp } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import type { Request } from "#netlink/message.ts";
import {
  decodeAddress,
  deleteAddress,
  getAddresses,
  type InterfaceAddress,
  newAddress,
} from "#netlink/route/address.ts";
import type { Link } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { writeSysctl } from "./sysctl.ts";

export type { InterfaceAddress } from "#netlink/route/address.ts";

/**
 * The addresses of one link, none if it has gone. The kernel looks at no other. Like `ip addr show dev NAME`.
 * @throws {NetlinkError}
 */
export function readAddresses(namespace: NetworkNamespace, ifindex: number): InterfaceAddress[] {
  try {
    return namespace.dump(getAddresses({ ifindex })).map(decodeAddress);
  } catch (error) {
    if (isNetlinkError(error, Errno.ENODEV)) return [];
    throw error;
  }
}

/** Every address of the namespace. Like `ip addr show`. @throws {NetlinkError} */
export function readAllAddresses(namespace: NetworkNamespace): InterfaceAddress[] {
  return namespace.dump(getAddresses()).map(decodeAddress);
}

/**
 * Request for one address, with the broadcast address that an IPv4 subnet has.
 * @param options.noPrefixRoute the rest of the subnet is not on the link: no route says so
 */
export function addressRequest(
  ifindex: number,
  address: Cidr,
  options: { readonly noDad: boolean; readonly noPrefixRoute?: boolean },
): Request {
  return newAddress({
    ifindex,
    address,
    broadcast: broadcastOf(address),
    noDad: address.address.family === 6 && options.noDad,
    noPrefixRoute: options.noPrefixRoute,
  });
}

/** A /31 has none (RFC 3021), nor has a single address. */
function broadcastOf(cidr: Cidr): IpAddress | undefined {
  return cidr.address.family === 4 && cidr.prefixLength < 31 ? lastIp(cidr) : undefined;
}

/**
 * Adds an address to a link of the host, where nobody else can have it: IPv6 without waiting for duplicates, and even
 * where IPv6 is switched off for new links. Like `ip addr add ADDRESS dev NAME nodad`.
 * @returns false if the link has it
 * @throws {NetlinkError}
 */
export function addAddress(namespace: NetworkNamespace, link: Link, address: Cidr): boolean {
  const request = addressRequest(link.ifindex, address, { noDad: true });
  try {
    namespace.transact([request]);
    return true;
  } catch (error) {
    if (isNetlinkError(error, Errno.EEXIST)) return false;
    if (address.address.family !== 6 || !isNetlinkError(error, Errno.EACCES)) throw error;
  }
  writeSysctl(namespace, `net/ipv6/conf/${link.name}/disable_ipv6`, 0);
  namespace.transact([request]);
  return true;
}

/** Like `ip addr del ADDRESS dev NAME`. @returns false if the link has it not @throws {NetlinkError} */
export function removeAddress(namespace: NetworkNamespace, ifindex: number, address: Cidr): boolean {
  try {
    namespace.transact([deleteAddress({ ifindex, address })]);
    return true;
  } catch (error) {
    if (isNetlinkError(error, Errno.EADDRNOTAVAIL, Errno.ENODEV)) return false;
    throw error;
  }
}
