import { changeLink, type Link, readLink, removeLink, requireLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { type IfName, ifNameProblem } from "#net/ifname.ts";
import type { PluginHost } from "./context.ts";
import { addUser, listUsers, removeUser, type User, withThing } from "./users.ts";

/**
 * What a link has as its alias that several attachments need, of whatever networks and plugins: the first makes it, the
 * last takes it away. Without that alias none is ever removed.
 */
export const sharedLinkAlias = "made by netctl for its containers";

/** Whether a link that is there was made here, and goes when nobody needs it any more. */
export function isShared(link: Link): boolean {
  return link.alias === sharedLinkAlias;
}

/**
 * Makes sure that the link is there and up, and that it stays as long as this user is there. One that was there before
 * without having been made here is left as it is. The caller has the user in the journal, and calls
 * `releaseSharedLink()` whatever comes of it.
 * @param make creates the link with `sharedLinkAlias`
 * @throws {NetlinkError}
 */
export async function ensureSharedLink(
  host: PluginHost,
  name: IfName,
  user: User,
  make: (namespace: NetworkNamespace) => void,
): Promise<Link> {
  const { namespace } = host.kernel;
  return await withThing(host, name, () => {
    addUser(host, name, user);
    crashPoint("shared-link-user-added");
    const present = readLink(namespace, name);
    if (!present) {
      make(namespace);
      changeLink(namespace, name, { up: true });
      crashPoint("shared-link-made");
      return requireLink(namespace, name);
    }
    if (isShared(present) && !present.up) changeLink(namespace, present.ifindex, { up: true });
    return present;
  });
}

/**
 * The user needs the link no more. Removes it if nobody does, unless it was not made here. Nothing happens for a user that
 * is none.
 * @throws {NetlinkError} @throws {IoError}
 */
export async function releaseSharedLink(host: PluginHost, name: IfName, user: User): Promise<void> {
  const { namespace } = host.kernel;
  await withThing(host, name, async () => {
    if (!removeUser(host, name, user)) return;
    crashPoint("shared-link-user-removed");
    const link = readLink(namespace, name);
    if (link && isShared(link)) await removeLink(namespace, link.ifindex);
    crashPoint("shared-link-removed");
  });
}

/** For GC: forgets users that have no record any more, as after the loss of the journal. */
export async function sweepSharedLinks(host: PluginHost, network: string): Promise<void> {
  for (const { thing, user } of listUsers(host)) {
    const isStale = user.key.network === network && !host.journal.read(user.key, user.plugin);
    if (isStale && ifNameProblem(thing) === undefined) await releaseSharedLink(host, thing as IfName, user);
  }
}
