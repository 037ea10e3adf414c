import { type LockOptions, tryFileLock, withFileLock } from "#machine/lock.ts";
import { native } from "#native/addon.ts";
import type { AttachmentKey } from "./record.ts";

/**
 * Locks for processes that carry out one verb each; a service orders its requests itself, and takes them because of
 * those processes. The kernel drops them when the process dies.
 *
 * A lock file per attachment could never be removed safely, so there is a fixed number of them below `<run>/locks`,
 * chosen by hash: 4096, so that two of fifty parallel attachments rarely wait for each other. Never wait for the lock
 * of a second attachment while holding one. Order: attachment before network.
 */
const bucketHexDigits = 3;

/** Runs `action` while nobody else works on this attachment, in whichever plugin. */
export function withAttachmentLock<Value>(
  runDirectory: string,
  key: AttachmentKey,
  action: () => Value | Promise<Value>,
  options: LockOptions,
): Promise<Value> {
  return withFileLock(attachmentPath(runDirectory, key), action, options);
}

/** Runs `action` while nobody else holds this network; `shared` for those who only must not meet the one who does. */
export function withNetworkLock<Value>(
  runDirectory: string,
  network: string,
  action: () => Value | Promise<Value>,
  options: LockOptions,
): Promise<Value> {
  return withFileLock(networkPath(runDirectory, network), action, options);
}

/**
 * The locks of many attachments, as far as they can be had without waiting: for who mends what nobody works on. The one
 * who may hold the locks of several, since it waits for none.
 */
export class AttachmentClaim {
  readonly #runDirectory: string;
  /** By path: what gives it back; undefined where somebody else has it. */
  readonly #locks = new Map<string, (() => void) | undefined>();

  constructor(runDirectory: string) {
    this.#runDirectory = runDirectory;
  }

  /**
   * True if from now on, until `release()`, nobody else works on this attachment. Asked again it answers the same.
   * @throws {IoError} where the lock file can't be opened
   */
  take(key: AttachmentKey): boolean {
    const isNetworkOurs = this.#take(networkPath(this.#runDirectory, key.network), true);
    return isNetworkOurs && this.#take(attachmentPath(this.#runDirectory, key), false);
  }

  release(): void {
    for (const giveBack of this.#locks.values()) giveBack?.();
    this.#locks.clear();
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #take(path: string, shared: boolean): boolean {
    if (!this.#locks.has(path)) this.#locks.set(path, tryFileLock(path, { shared }));
    return this.#locks.get(path) !== undefined;
  }
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

/**
 * Runs `action` while nobody else on this host decides what holds for an interface and all attachments behind it: for
 * those of whose changes the kernel can't tell whether another one came in between. Order: attachment before network
 * before policies.
 */
export function withPolicyLock<Value>(
  runDirectory: string,
  action: () => Value | Promise<Value>,
  options: LockOptions,
): Promise<Value> {
  return withFileLock(`${runDirectory}/locks/policies`, action, options);
}

function attachmentPath(runDirectory: string, { network, containerId, ifName }: AttachmentKey): string {
  return `${runDirectory}/locks/attachment-${bucketOf([network, containerId, ifName])}`;
}

function networkPath(runDirectory: string, network: string): string {
  return `${runDirectory}/locks/network-${bucketOf([network])}`;
}

function bucketOf(words: readonly string[]): string {
  return native()
    .crc32(Buffer.from(JSON.stringify(words)))
    .toString(16)
    .padStart(8, "0")
    .slice(-bucketHexDigits);
}
