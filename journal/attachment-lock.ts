import { type LockOptions, withFileLock } from "#machine/lock.ts";
import { native } from "#native/addon.ts";
import type { AttachmentKey } from "./record.ts";

/**
 * Locks for processes that carry out one verb each; a service orders its requests itself, and takes them because of
 * those processes. The kernel drops them when the process dies.
 *
 * A lock file per attachment could never be removed safely, so there is a fixed number of them below `<run>/locks`,
 * chosen by hash: 4096, so that two of fifty parallel attachments rarely wait for each other. Never take the lock of
 * a second attachment while holding one. Order: attachment before network.
 */
const bucketHexDigits = 3;

/** Runs `action` while nobody else works on this attachment, in whichever plugin. */
export function withAttachmentLock<Value>(
  runDirectory: string,
  key: AttachmentKey,
  action: () => Value | Promise<Value>,
  options: LockOptions,
): Promise<Value> {
  const bucket = bucketOf([key.network, key.containerId, key.ifName]);
  return withFileLock(`${runDirectory}/locks/attachment-${bucket}`, action, options);
}

/** Runs `action` while nobody else holds this network; `shared` for those who only must not meet the one who does. */
export function withNetworkLock<Value>(
  runDirectory: string,
  network: string,
  action: () => Value | Promise<Value>,
  options: LockOptions,
): Promise<Value> {
  return withFileLock(`${runDirectory}/locks/network-${bucketOf([network])}`, action, options);
}

/**
 * Runs `action` while nobody else makes something in a container's namespace that several of its attachments share, such
 * as the numbers of its routing tables. Order: attachment before network before namespace.
 */
export function withNamespaceLock<Value>(
  runDirectory: string,
  { dev, ino }: { readonly dev: number; readonly ino: number },
  action: () => Value | Promise<Value>,
  options: LockOptions,
): Promise<Value> {
  return withFileLock(`${runDirectory}/locks/namespace-${bucketOf([`${dev}`, `${ino}`])}`, action, options);
}

function bucketOf(words: readonly string[]): string {
  return native()
    .crc32(Buffer.from(JSON.stringify(words)))
    .toString(16)
    .padStart(8, "0")
    .slice(-bucketHexDigits);
}
