import { crashPoint } from "#machine/crash-point.ts";
import { type Cidr, equalCidr, formatCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { isLinkLocal } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import type { Request } from "#netlink/message.ts";
import { firstLinkSummary, getLink, setLink } from "#netlink/route/link.ts";
import { decodeRoute, getRouteTo, RouteType } from "#netlink/route/route.ts";
import type { Outcome } from "#netlink/socket.ts";
import { addressRequest, readAddresses } from "./address.ts";
import { type Link, requireLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { type RouteSpec, routeRequest } from "./route.ts";
import { type SysctlSetting, writeSysctls } from "./sysctl.ts";
import { waitUntil } from "./wait.ts";

/** How the interface inside the container is set up. */
export interface InterfaceSpec {
  readonly addresses: readonly Cidr[];
  readonly routes: readonly RouteSpec[];
  /** False: IPv6 addresses are usable at once, and nobody asks whether another node has them. */
  readonly duplicateAddressDetection: boolean;
  /** False: nobody is taken for a router who says so; routes are those of `routes` alone. Undefined: as it is. */
  readonly routerAdvertisements?: boolean;
  /** True: nobody of the addresses' subnets is on the link, but for those that `routes` name. */
  readonly pointToPoint?: boolean;
  /**
   * The interface comes up with its addresses, so that it announces those of IPv4 by itself: for links whose MAC
   * address can't be set, on which `announce()` can do nothing.
   */
  readonly addressesFirst?: boolean;
}

/**
 * Sets a container's interface up with its addresses and routes, in one datagram. Sysctls come first: what they say
 * is looked at when the interface comes up. A route that is there already is fine.
 * @throws {NetlinkError} naming the address or route
 * @throws {SysctlError} IPv6 addresses on a kernel without IPv6, or with a read-only /proc/sys that forbids IPv6
 */
export function configureInterface(
  namespace: NetworkNamespace,
  link: { readonly ifindex: number; readonly name: IfName },
  spec: InterfaceSpec,
): Link {
  const { ifindex, name } = link;
  prepareSysctls(namespace, name, spec);
  crashPoint("interface-sysctls-set");
  const options = {
    noDad: !spec.duplicateAddressDetection,
    ...(spec.pointToPoint ? { noPrefixRoute: true } : {}),
  };
  const up = setLink(ifindex, { up: true });
  const addresses = spec.addresses.map((address) => addressRequest(ifindex, address, options));
  const requests = [
    ...(spec.addressesFirst === true ? [...addresses, up] : [up, ...addresses]),
    ...spec.routes.map((route) => routeRequest(ifindex, route)),
    getLink(ifindex, { statistics: false }),
  ];
  const outcomes = namespace.attempt(requests);
  const firstRoute = 1 + spec.addresses.length;
  for (const [index, outcome] of outcomes.entries()) {
    const isRoute = index >= firstRoute && index < firstRoute + spec.routes.length;
    if (outcome.errno !== 0 && !(isRoute && outcome.errno === Errno.EEXIST)) throw outcome.error;
  }
  return firstLinkSummary(outcomes.at(-1)?.messages ?? []) ?? requireLink(namespace, ifindex);
}

function prepareSysctls(namespace: NetworkNamespace, name: IfName, spec: InterfaceSpec): void {
  const { addresses, duplicateAddressDetection } = spec;
  if (addresses.length === 0) return;
  const ipv6 = `net/ipv6/conf/${name}`;
  const settings: SysctlSetting[] = [
    // For `announce()`.
    { key: `net/ipv4/conf/${name}/arp_notify`, value: 1, optional: true },
    // The link-local address, which the kernel makes by itself, would be probed for even where ours are not.
    { key: `${ipv6}/accept_dad`, value: duplicateAddressDetection ? 1 : 0, optional: true },
  ];
  if (spec.routerAdvertisements === false) {
    settings.push({ key: `${ipv6}/accept_ra`, value: 0, optional: true });
  }
  if (duplicateAddressDetection) settings.push({ key: `${ipv6}/enhanced_dad`, value: 1, optional: true });
  if (addresses.some(({ address }) => address.family === 6)) {
    settings.push(
      // New links may have it switched off, as in Docker's containers; addresses are refused then.
      { key: "net/ipv6/conf/lo/disable_ipv6", value: 0, optional: true },
      { key: `${ipv6}/disable_ipv6`, value: 0 },
      { key: `${ipv6}/keep_addr_on_down`, value: 1, optional: true },
      { key: `${ipv6}/ndisc_notify`, value: 1, optional: true },
    );
  }
  writeSysctls(namespace, settings);
}

/**
 * Tells the neighbours which MAC address has the interface's addresses now, so that nobody goes on sending to whoever
 * had them before: gratuitous ARP and unsolicited neighbour advertisements. Needs `configureInterface()` before it, and
 * the other end to forward frames.
 *
 * The kernel sends them when the MAC address is set, even to what it was (with arp_notify and ndisc_notify;
 * NETDEV_CHANGEADDR in net/ipv4/devinet.c and net/ipv6/ndisc.c). So there is no need for a packet socket.
 * Does nothing on links whose MAC address can't be set, or not while they are up.
 * @throws {NetlinkError}
 */
export function announce(namespace: NetworkNamespace, link: Link): void {
  requireAnnounced(namespace.attempt(announcement(link)));
}

/** The same on a thread of the pool: with a thousand neighbours it takes two milliseconds. @throws {NetlinkError} */
export async function announceAsync(namespace: NetworkNamespace, link: Link): Promise<void> {
  requireAnnounced(await namespace.attemptAsync(announcement(link)));
}

function announcement({ ifindex, mac }: Link): readonly Request[] {
  return mac === undefined ? [] : [setLink(ifindex, { mac })];
}

function requireAnnounced([outcome]: readonly Outcome[]): void {
  if (outcome && outcome.errno !== 0 && !isFixed.includes(outcome.errno)) throw outcome.error;
}

const isFixed: readonly number[] = [Errno.EOPNOTSUPP, Errno.EBUSY];

/** Duplicate address detection found another node with the address. */
export class DuplicateAddressError extends Error {
  constructor(address: Cidr) {
    super(
      `Cannot use address ${formatCidr(address)}: duplicate address detection found another node that has it`,
    );
    this.name = "DuplicateAddressError";
  }
}

/**
 * Waits until the kernel has made IPv6 addresses fully its own. Even without duplicate address detection that happens
 * after the call that adds them, on a work queue (addrconf_dad_work in net/ipv6/addrconf.c): until then what comes for
 * the address is dropped, and with it the answer to the first neighbour solicitation, which is repeated a second later.
 * With the detection it takes a second or two.
 * @param addresses of the link; those of IPv4 need no wait
 * @param options.linkLocal also wait for the address that the kernel has made
 * @throws {DuplicateAddressError}
 * @throws {WaitTimeoutError}
 */
export async function waitForAddresses(
  namespace: NetworkNamespace,
  link: Link,
  addresses: readonly Cidr[],
  options: { readonly timeoutMs: number; readonly linkLocal?: boolean; readonly signal?: AbortSignal },
): Promise<void> {
  const wanted = addresses.filter(({ address }) => address.family === 6);
  if (wanted.length === 0) return;
  const concerns = (present: Cidr) =>
    wanted.some((each) => equalCidr(each, present)) ||
    (options.linkLocal === true && isLinkLocal(present.address));
  await waitUntil(
    `IPv6 addresses of link ${JSON.stringify(link.name)} to become usable`,
    () => {
      const present = readAddresses(namespace, link.ifindex).filter(({ address }) => concerns(address));
      const failed = present.find(({ dadFailed }) => dadFailed);
      if (failed) throw new DuplicateAddressError(failed.address);
      return !present.some(({ tentative }) => tentative) && areLocal(namespace, wanted) ? true : undefined;
    },
    options,
  );
}

/** Whether packets for these addresses are delivered here. */
function areLocal(namespace: NetworkNamespace, addresses: readonly Cidr[]): boolean {
  const questions = addresses.map(({ address }) => getRouteTo({ destination: address }));
  return namespace
    .attempt(questions)
    .every(({ messages: [route] }) => route !== undefined && decodeRoute(route).type === RouteType.local);
}
