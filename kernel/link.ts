import { crashPoint } from "#machine/crash-point.ts";
import type { IfName } from "#net/ifname.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import type { Request } from "#netlink/message.ts";
import {
  decodeLinkSummary,
  deleteLink,
  firstLink,
  firstLinkSummary,
  getLink,
  getLinks,
  type LinkSummary as Link,
  type LinkChanges,
  type Link as LinkDetails,
  setLink,
} from "#netlink/route/link.ts";
import type { NetworkNamespace } from "./namespace.ts";

export type { Link as LinkDetails, LinkChanges, LinkSummary as Link } from "#netlink/route/link.ts";

/** A link by its ifindex or its name. */
export type LinkRef = number | IfName;

const withoutCounters = { statistics: false };

/**
 * One link; undefined if there is none. Like `ip -d link show NAME`. Reading also makes the kernel (6.8 and newer)
 * act on a carrier that has come or gone, which it otherwise does a little later.
 * @throws {NetlinkError}
 */
export function readLink(namespace: NetworkNamespace, ref: LinkRef): Link | undefined {
  return readEachLink(namespace, [ref])[0];
}

/**
 * Several links in one question.
 * @param also goes with it, after the links; whether the kernel does it is of no interest
 * @throws {NetlinkError}
 */
export function readEachLink(
  namespace: NetworkNamespace,
  refs: readonly LinkRef[],
  also: readonly Request[] = [],
): readonly (Link | undefined)[] {
  const outcomes = namespace.attempt([...refs.map((ref) => getLink(ref, withoutCounters)), ...also]);
  return outcomes.slice(0, refs.length).map((outcome) => {
    if (outcome.errno === 0) return firstLinkSummary(outcome.messages);
    if (outcome.errno === Errno.ENODEV) return undefined;
    throw outcome.error;
  });
}

/** The same with everything that the kernel says of it, such as the mode of a macvlan. Takes longer. @throws {NetlinkError} */
export function readLinkDetails(namespace: NetworkNamespace, ref: LinkRef): LinkDetails | undefined {
  const [outcome] = namespace.attempt([getLink(ref, withoutCounters)]);
  if (outcome === undefined || outcome.errno === Errno.ENODEV) return undefined;
  if (outcome.errno !== 0) throw outcome.error;
  return firstLink(outcome.messages);
}

/** @throws {NetlinkError} ENODEV */
export function requireLink(namespace: NetworkNamespace, ref: LinkRef): Link {
  const [messages = []] = namespace.transact([getLink(ref, withoutCounters)]);
  return expectLink(firstLinkSummary(messages), ref);
}

/** All links, or the ports of one master. Asks for a table, so not for what every container does. */
export function listLinks(namespace: NetworkNamespace, filter: { readonly master?: number } = {}): Link[] {
  return namespace.dump(getLinks({ ...filter, ...withoutCounters })).map(decodeLinkSummary);
}

/** Like `ip link set NAME …`. @throws {NetlinkError} */
export function changeLink(namespace: NetworkNamespace, ref: LinkRef, changes: LinkChanges): void {
  namespace.transact([setLink(ref, changes)]);
}

/** For an answer that cannot be without a link. */
export function expectLink(link: Link | undefined, ref: LinkRef): Link {
  if (!link) throw new Error(`Cannot read link ${JSON.stringify(ref)}: there is none in the kernel's answer`);
  return link;
}

/**
 * Removes a link and, of a veth, its other end. Settles as soon as the link is gone for everybody, which is well
 * before the kernel has freed it. Like `ip link del NAME`.
 * @returns false if there was none
 * @throws {NetlinkError}
 */
export async function removeLink(namespace: NetworkNamespace, ref: LinkRef): Promise<boolean> {
  const link = readLink(namespace, ref);
  if (!link) return false;
  try {
    await namespace.deleteLink(link);
    crashPoint("link-removed");
    return true;
  } catch (error) {
    // Its other end was removed meanwhile, or the namespace of that.
    if (isNetlinkError(error, Errno.ENODEV)) return false;
    if (!isNetlinkError(error, Errno.EMFILE, Errno.ENFILE)) throw error;
    return removeInPlace(namespace, link);
  }
}

/** With what is open already, where nothing more can be opened to hear of it: waits for the kernel's readers. */
function removeInPlace(namespace: NetworkNamespace, { ifindex }: Link): boolean {
  try {
    namespace.transact([deleteLink(ifindex)]);
    crashPoint("link-removed");
    return true;
  } catch (error) {
    if (isNetlinkError(error, Errno.ENODEV)) return false;
    throw error;
  }
}
