import type { Cidr } from "#net/cidr.ts";
import { formatCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { Errno } from "#netlink/errno.ts";
import { firstLinkSummary, getLink, setLink } from "#netlink/route/link.ts";
import { newRoute } from "#netlink/route/route.ts";
import { addressRequest } from "./address.ts";
import { expectLink, type Link, requireLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { type SysctlSetting, writeSysctls } from "./sysctl.ts";

/** The host has a route to an address that a container shall have. */
export class RouteExistsError extends Error {
  constructor(destination: Cidr, name: IfName, cause: unknown) {
    super(
      `Cannot route ${formatCidr(destination)} to ${JSON.stringify(name)}: the host has a route to it already`,
      { cause },
    );
    this.name = "RouteExistsError";
  }
}

/**
 * Sets up the host's end of a link that leads to one container: with the addresses that the container has as its
 * gateways, and a route to each of its own. What nobody else can have is usable at once, the link-local address as well,
 * from which IPv6 neighbours are asked. Like `ip link set NAME up`, `ip addr add GATEWAY/32 dev NAME` and
 * `ip route add ADDRESS/32 dev NAME`, in one datagram.
 * @param end.addresses with full prefixes; several links may have one and the same
 * @throws {RouteExistsError}
 * @throws {NetlinkError}
 */
export function startRoutedEnd(
  namespace: NetworkNamespace,
  name: IfName,
  end: { readonly addresses: readonly Cidr[]; readonly destinations: readonly Cidr[] },
): Link {
  const { ifindex } = requireLink(namespace, name);
  const ipv6 = `net/ipv6/conf/${name}`;
  const settings: SysctlSetting[] = [
    { key: `${ipv6}/accept_ra`, value: 0, optional: true },
    { key: `${ipv6}/accept_dad`, value: 0, optional: true },
  ];
  if (end.addresses.some(({ address }) => address.family === 6))
    settings.push({ key: `${ipv6}/disable_ipv6`, value: 0 });
  writeSysctls(namespace, settings);
  const outcomes = namespace.attempt([
    setLink(ifindex, { up: true }),
    ...end.addresses.map((address) => addressRequest(ifindex, address, { noDad: true })),
    ...end.destinations.map((destination) =>
      newRoute({ family: destination.address.family, destination, ifindex }),
    ),
    getLink(ifindex, { statistics: false }),
  ]);
  const firstRoute = 1 + end.addresses.length;
  for (const [index, { errno, error }] of outcomes.entries()) {
    if (errno === 0) continue;
    const destination = end.destinations[index - firstRoute];
    throw errno === Errno.EEXIST && destination ? new RouteExistsError(destination, name, error) : error;
  }
  return expectLink(firstLinkSummary(outcomes.at(-1)?.messages ?? []), name);
}
