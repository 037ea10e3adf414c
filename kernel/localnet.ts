import { type Cidr, hostCidr, parseCidr } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { decodeAddress, getAddresses } from "#netlink/route/address.ts";
import { decodeRoute, getRouteTo } from "#netlink/route/route.ts";
import { type Link, readLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { ensureSysctl, readSysctl } from "./sysctl.ts";

/** The link by which the namespace's packets to an address leave. Like `ip route get`. @throws {NetlinkError} */
export function readLinkTowards(namespace: NetworkNamespace, address: IpAddress): Link | undefined {
  try {
    const [[message] = []] = namespace.transact([getRouteTo({ destination: address })]);
    const ifindex = message && decodeRoute(message).ifindex;
    return ifindex === undefined ? undefined : readLink(namespace, ifindex);
  } catch (error) {
    if (isNetlinkError(error, Errno.ENETUNREACH, Errno.EHOSTUNREACH, Errno.EACCES)) return undefined;
    throw error;
  }
}

const key = (link: Link) => `net/ipv4/conf/${link.name}/route_localnet`;

/** True if packets from and to 127.0.0.0/8 may pass the link. */
export function routesLocalnet(namespace: NetworkNamespace, link: Link): boolean {
  return ["net/ipv4/conf/all/route_localnet", key(link)].some((each) => readSysctl(namespace, each) === "1");
}

/**
 * Lets packets from and to 127.0.0.0/8 pass the link, as connections from 127.0.0.1 to a translated destination do.
 * Whoever is on the link can then send such packets as well, so something else has to keep them off: the rules in
 * nftables/skeleton/ports.ts. Like `sysctl -w net.ipv4.conf.NAME.route_localnet=1`.
 * @throws {SysctlError}
 */
export function ensureLocalnetRouting(namespace: NetworkNamespace, link: Link): void {
  if (!routesLocalnet(namespace, link)) ensureSysctl(namespace, key(link), 1);
}

const loopback4 = parseCidr("127.0.0.0/8");

/** What the namespace takes for itself: each of its addresses, and for IPv4 all of 127.0.0.0/8. @throws {NetlinkError} */
export function readLocalAddresses(namespace: NetworkNamespace, family: 4 | 6): readonly Cidr[] {
  const own = namespace.dump(getAddresses({ family })).map(decodeAddress);
  return [...(family === 4 ? [loopback4] : []), ...own.map(({ address }) => hostCidr(address.address))];
}
