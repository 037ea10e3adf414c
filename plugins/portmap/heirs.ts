import type { AttachmentKey } from "#journal/record.ts";
import { sha256Hex } from "#machine/sha256.ts";
import type { PluginHost } from "#plugins/context.ts";
import { addUser, isUsed, listUsers, removeUser, withThing } from "#plugins/users.ts";

/*
 * Attachments that found their ports with another one of the same container, and may get them when that goes. Hardly any
 * container has one, and with a note of those that have, a DEL need not look through the records of all containers.
 */

/** @throws {IoError} @throws {LockTimeoutError} */
export async function addHeir(key: AttachmentKey, host: PluginHost): Promise<void> {
  const thing = thingOf(key.containerId);
  await withThing(host, thing, () => addUser(host, thing, { key, plugin: "portmap" }));
}

/** Nothing happens for one that is none. @throws {IoError} @throws {LockTimeoutError} */
export async function removeHeir(key: AttachmentKey, host: PluginHost): Promise<void> {
  const thing = thingOf(key.containerId);
  if (!isUsed(host, thing)) return;
  await withThing(host, thing, () => void removeUser(host, thing, { key, plugin: "portmap" }));
}

/** @throws {IoError} */
export function heirsOf(containerId: string, host: PluginHost): readonly AttachmentKey[] {
  const thing = thingOf(containerId);
  return isUsed(host, thing) ? listUsers(host, thing).map(({ user }) => user.key) : [];
}

function thingOf(containerId: string): string {
  return `ports:${sha256Hex(containerId).slice(0, 32)}`;
}
