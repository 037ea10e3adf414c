import { closeSync } from "node:fs";
import { native } from "#native/addon.ts";
import type { NameEntry } from "./registry.ts";

/** Nothing is left of a container's namespace at the path that was given for it. */
export class NamespaceGone extends Error {
  override readonly name = "NamespaceGone";
}

/**
 * Opens a container's namespace, if it is still the one that was registered. An open descriptor keeps it alive: close it
 * at once.
 * @throws {NamespaceGone}
 */
export function openNamespace({ path, dev, ino }: NameEntry["netns"]): number {
  let opened: ReturnType<ReturnType<typeof native>["openNetworkNamespace"]>;
  try {
    opened = native().openNetworkNamespace(path);
  } catch (cause) {
    throw new NamespaceGone(`Cannot open network namespace ${path}: ${String(cause)}`, { cause });
  }
  if (!opened) throw new NamespaceGone(`Cannot open network namespace ${path}: there is something else`);
  if (opened.dev === dev && opened.ino === ino) return opened.fd;
  closeSync(opened.fd);
  throw new NamespaceGone(`Cannot open network namespace ${path}: another has taken its place`);
}

/** Whether the path leads to it still. Takes about 4 µs. */
export function isThere(netns: NameEntry["netns"]): boolean {
  try {
    closeSync(openNamespace(netns));
    return true;
  } catch {
    return false;
  }
}
