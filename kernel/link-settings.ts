import type { MacAddress } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { firstLink, getLink, type Link, LinkFlag, setLink } from "#netlink/route/link.ts";
import type { LinkRef } from "./link.ts";
import { readLinkAddressing, restoreLinkAddressing } from "./link-addressing.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** What can be set on an interface that another program has made. */
export interface LinkSettings {
  readonly mac?: MacAddress | undefined;
  readonly mtu?: number | undefined;
  readonly promiscuous?: boolean | undefined;
  readonly allMulticast?: boolean | undefined;
  /** Packets that may wait for the interface. */
  readonly txQueueLength?: number | undefined;
}

export interface TunableLink extends Required<LinkSettings> {
  readonly ifindex: number;
  readonly name: string;
  /** "veth", "macvlan" …; undefined for hardware, which outlives its namespace. */
  readonly kind: string | undefined;
  /** Limits of the MTU; undefined where the driver has none. */
  readonly minMtu: number | undefined;
  readonly maxMtu: number | undefined;
}

/** The settings of one link; undefined if there is none. @throws {NetlinkError} */
export function readLinkSettings(namespace: NetworkNamespace, ref: LinkRef): TunableLink | undefined {
  const [outcome] = namespace.attempt([getLink(ref, { statistics: false })]);
  if (outcome === undefined || outcome.errno === Errno.ENODEV) return undefined;
  if (outcome.error) throw outcome.error;
  const link = firstLink(outcome.messages);
  return link && tunable(link);
}

/**
 * Sets them all by one message. Like `ip link set NAME address … mtu … promisc … allmulticast … txqueuelen …`. Drivers
 * that take no MAC address while the link is up have it down for a moment, and it keeps its addresses and routes.
 * @throws {NetlinkError} ENODEV
 */
export function changeLinkSettings(
  namespace: NetworkNamespace,
  ifindex: number,
  settings: LinkSettings,
): void {
  try {
    namespace.transact([setLink(ifindex, settings)]);
  } catch (error) {
    if (settings.mac === undefined || !isNetlinkError(error, Errno.EBUSY)) throw error;
    const addressing = readLinkAddressing(namespace, ifindex);
    const requests = [{ up: false }, settings, { up: true }].map((changes) => setLink(ifindex, changes));
    const refused = namespace.attempt(requests).find(({ errno }) => errno !== 0);
    restoreLinkAddressing(namespace, ifindex, addressing);
    if (refused?.error) throw refused.error;
  }
}

function tunable(link: Link): TunableLink {
  const { ifindex, name, kind, mac, mtu, flags, txQueueLength, minMtu, maxMtu } = link;
  return {
    ifindex,
    name,
    kind,
    mac,
    mtu,
    promiscuous: (flags & LinkFlag.Promiscuous) !== 0,
    allMulticast: (flags & LinkFlag.AllMulticast) !== 0,
    txQueueLength,
    minMtu: minMtu || undefined,
    maxMtu: maxMtu || undefined,
  };
}
