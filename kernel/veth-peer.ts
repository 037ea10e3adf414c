import { Errno } from "#netlink/errno.ts";
import { decodeNamespaceId, getNamespaceId } from "#netlink/route/namespace-id.ts";
import { type Link, readLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";

/**
 * The other end of a veth pair, if it is in that namespace. The pair's ends know each other by ifindex alone, which
 * another link may have in another namespace; so the namespace is compared as well.
 * @param link of `near`
 * @throws {NetlinkError}
 */
export function readVethPeer(near: NetworkNamespace, link: Link, far: NetworkNamespace): Link | undefined {
  if (link.kind !== "veth" || link.parent === undefined) return undefined;
  const isSame = near.dev === far.dev && near.ino === far.ino;
  if (link.parentNamespaceId === undefined ? !isSame : !isKnownAs(near, far, link.parentNamespaceId)) {
    return undefined;
  }
  return readLink(far, link.parent);
}

/** Whether `id` is what links of `near` call `far`. */
function isKnownAs(near: NetworkNamespace, far: NetworkNamespace, id: number): boolean {
  const [outcome] = near.attempt([getNamespaceId(far.fd)]);
  if (!outcome || outcome.errno === Errno.ENOENT) return false;
  if (outcome.error) throw outcome.error;
  const [message] = outcome.messages;
  return message !== undefined && decodeNamespaceId(message) === id;
}
