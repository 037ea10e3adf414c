import { native } from "#native/addon.ts";
import { errnoMeaning } from "#netlink/errno.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** A file below /proc/sys could not be read or written. */
export class SysctlError extends Error {
  /** As in /proc/sys, with slashes: "net/ipv4/ip_forward" */
  readonly key: string;
  /** Positive. */
  readonly errno: number;
  readonly code: string;

  constructor(verb: string, key: string, cause: unknown) {
    const errno =
      cause instanceof Error && "errno" in cause && typeof cause.errno === "number" ? cause.errno : 0;
    super(`Cannot ${verb}: ${errno === 0 ? String(cause) : errnoMeaning(errno)}`, { cause });
    this.name = "SysctlError";
    this.key = key;
    this.errno = errno;
    this.code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
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
    const error = new SysctlError(`read sysctl ${key}`, key, cause);
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * Like `sysctl -w`.
 * @throws {SysctlError} ENOENT without such a key; EROFS where /proc/sys is read-only
 */
export function writeSysctl(namespace: NetworkNamespace, key: string, value: string | number): void {
  try {
    native().writeFileIn(namespace.fd, `/proc/sys/${key}`, String(value));
  } catch (cause) {
    throw new SysctlError(`set sysctl ${key} to ${value}`, key, cause);
  }
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

/**
 * Sets a sysctl that only makes things better: does nothing where this kernel has none (no IPv6), or lets nobody
 * change it (a read-only /proc/sys).
 * @throws {SysctlError}
 */
export function writeOptionalSysctl(namespace: NetworkNamespace, key: string, value: string | number): void {
  try {
    writeSysctl(namespace, key, value);
  } catch (error) {
    const harmless: readonly string[] = ["ENOENT", "EROFS", "EACCES", "EPERM"];
    if (!(error instanceof SysctlError) || !harmless.includes(error.code)) throw error;
  }
}
