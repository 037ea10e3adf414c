import { native } from "#native/addon.ts";
import { Errno, errnoMeaning, errnoName } from "#netlink/errno.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** A file below /proc/sys could not be read or written. */
export class SysctlError extends Error {
  /** As in /proc/sys, with slashes: "net/ipv4/ip_forward" */
  readonly key: string;
  /** Positive. */
  readonly errno: number;
  readonly code: string;

  constructor(verb: string, key: string, errno: number) {
    super(`Cannot ${verb}: ${errnoMeaning(errno)}`);
    this.name = "SysctlError";
    this.key = key;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

/**
 * Reads a sysctl as the namespace sees it, without the newline. Like `sysctl -n`, but keys have slashes, as interface
 * names may have dots.
 * @returns undefined if this kernel has no such key
 * @throws {SysctlError}
 */
export function readSysctl(namespace: NetworkNamespace, key: string): string | undefined {
  try {
    return native().readFileIn(namespace.fd, `/proc/sys/${key}`).trimEnd();
  } catch (cause) {
    const errno = cause instanceof Error && "errno" in cause ? Number(cause.errno) : Errno.EIO;
    if (errno === Errno.ENOENT) return undefined;
    throw new SysctlError(`read sysctl ${key}`, key, errno);
  }
}

export interface SysctlSetting {
  readonly key: string;
  readonly value: string | number;
  /**
   * It only makes things better: does nothing where this kernel has no such key (no IPv6), or lets nobody change it (a
   * read-only /proc/sys).
   */
  readonly optional?: boolean;
}

/** What one call of the addon takes. */
const maxWrites = 32;

const harmless: readonly number[] = [Errno.ENOENT, Errno.EROFS, Errno.EACCES, Errno.EPERM];

/**
 * Sets several at once, in their order, and goes on after one that fails.
 * @throws {SysctlError} the first that has failed
 */
export function writeSysctls(namespace: NetworkNamespace, settings: readonly SysctlSetting[]): void {
  const errors: number[] = [];
  for (let at = 0; at < settings.length; at += maxWrites) {
    const part = settings.slice(at, at + maxWrites);
    const files = part.flatMap(({ key, value }) => [`/proc/sys/${key}`, String(value)]);
    errors.push(...native().writeFilesIn(namespace.fd, files));
  }
  for (const [index, { key, value, optional = false }] of settings.entries()) {
    const errno = errors[index] ?? 0;
    if (errno !== 0 && !(optional && harmless.includes(errno)))
      throw new SysctlError(`set sysctl ${key} to ${value}`, key, errno);
  }
}

/**
 * Like `sysctl -w`.
 * @throws {SysctlError} ENOENT without such a key; EROFS where /proc/sys is read-only
 */
export function writeSysctl(namespace: NetworkNamespace, key: string, value: string | number): void {
  writeSysctls(namespace, [{ key, value }]);
}

/**
 * Sets a sysctl that has another value, so that a read-only /proc/sys does no harm where nothing is to be done.
 * @returns the value it had, or undefined if it had this one
 * @throws {SysctlError}
 */
export function ensureSysctl(
  namespace: NetworkNamespace,
  key: string,
  value: string | number,
): string | undefined {
  const before = readSysctl(namespace, key);
  if (before === String(value)) return undefined;
  writeSysctl(namespace, key, value);
  return before ?? "";
}
