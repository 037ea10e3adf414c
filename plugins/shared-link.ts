import { readdirSync, readFileSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { changeLink, type Link, readLink, removeLink, requireLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { withFileLock } from "#machine/lock.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { sha256Hex } from "#machine/sha256.ts";
import type { IfName } from "#net/ifname.ts";
import type { PluginHost } from "./context.ts";

/**
 * Links of the host that several attachments need, of whatever networks and plugins: the first makes one, the last
 * takes it away. Each user is a file in `<state>/shared-links/<link>/`, so that asking who is left costs the same with
 * one user and with a thousand.
 */

/** Who needs a link. */
export interface LinkUser {
  readonly key: AttachmentKey;
  readonly plugin: string;
}

/** What a link made here has as its alias, so that nobody else's is ever removed. */
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
  user: LinkUser,
  make: (namespace: NetworkNamespace) => void,
): Promise<Link> {
  const { namespace } = host.kernel;
  return await withLinkLock(host, name, () => {
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
export async function releaseSharedLink(host: PluginHost, name: IfName, user: LinkUser): Promise<void> {
  const { namespace } = host.kernel;
  await withLinkLock(host, name, async () => {
    if (!removeUser(host, name, user)) return;
    crashPoint("shared-link-user-removed");
    const link = readLink(namespace, name);
    if (link && isShared(link)) await removeLink(namespace, link.ifindex);
    crashPoint("shared-link-removed");
  });
}

/** For GC: forgets users that have no record any more, as after the loss of the journal. Reads every user's file. */
export async function sweepSharedLinks(host: PluginHost, network: string): Promise<void> {
  for (const name of list(directoryOf(host))) {
    for (const file of list(`${directoryOf(host)}/${name}`)) {
      const user = readUser(`${directoryOf(host)}/${name}/${file}`);
      if (user?.key.network !== network || host.journal.read(user.key, user.plugin)) continue;
      await releaseSharedLink(host, name as IfName, user);
    }
  }
}

function addUser(host: PluginHost, name: IfName, user: LinkUser): void {
  const directory = `${directoryOf(host)}/${name}`;
  const path = `${directory}/${fileName(user)}`;
  try {
    makeDirectory(directory, 0o700);
    writeFileSync(path, `${JSON.stringify(user)}\n`, { mode: 0o600 });
  } catch (cause) {
    throw new IoError("write user of a shared link", path, cause);
  }
}

/** @returns true where nobody is left */
function removeUser(host: PluginHost, name: IfName, user: LinkUser): boolean {
  const directory = `${directoryOf(host)}/${name}`;
  const path = `${directory}/${fileName(user)}`;
  try {
    unlinkSync(path);
  } catch (cause) {
    if (errorCode(cause) !== "ENOENT") throw new IoError("remove user of a shared link", path, cause);
  }
  try {
    rmdirSync(directory);
    return true;
  } catch (cause) {
    if (errorCode(cause) === "ENOENT") return true;
    if (errorCode(cause) === "ENOTEMPTY" || errorCode(cause) === "EEXIST") return false;
    throw new IoError("remove directory of a shared link", directory, cause);
  }
}

const userSchema = goObject({
  key: goObject({ network: v.string(), containerId: v.string(), ifName: v.string() }),
  plugin: v.string(),
});

function readUser(path: string): LinkUser | undefined {
  try {
    const outcome = v.safeParse(userSchema, JSON.parse(readFileSync(path, "utf8")));
    return outcome.success ? outcome.output : undefined;
  } catch {
    return undefined;
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    if (errorCode(cause) === "ENOENT") return [];
    throw new IoError("list directory", directory, cause);
  }
}

function directoryOf(host: PluginHost): string {
  return join(host.directories.state, "shared-links");
}

function fileName({ key, plugin }: LinkUser): string {
  return sha256Hex(JSON.stringify([key.network, key.containerId, key.ifName, plugin])).slice(0, 32);
}

function withLinkLock<Value>(
  host: PluginHost,
  name: IfName,
  action: () => Value | Promise<Value>,
): Promise<Value> {
  const path = join(host.directories.run, "locks", `shared-link-${name}`);
  return withFileLock(path, action, { timeoutMs: 10_000 });
}
