import {
  closeSync,
  constants,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { crashPoint } from "#machine/crash-point.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import type { Trash } from "#machine/trash.ts";
import { native } from "#native/addon.ts";
import { formatIp, type IpAddress, tryParseIp } from "#net/ip.ts";
import { formatLease, type LeaseOwner, ownerName, parseLease } from "./lease-owner.ts";
import { unmapped } from "./range.ts";

/**
 * The addresses of one network on disk, in the format of the reference's host-local, which may work on the same
 * directory at the same time: a file per address with its owner in it, `last_reserved_ip.N` with the address that range
 * set N gave out last, and `lock`. Every method that writes, and every one whose answer has to stay true, needs the
 * lock. They throw `IoError`.
 */
export class LeaseDirectory {
  readonly path: string;
  readonly #trash: Trash;

  constructor(path: string, trash: Trash) {
    this.path = path;
    this.#trash = trash;
  }

  get lockPath(): string {
    return `${this.path}/lock`;
  }

  has(ip: IpAddress): boolean {
    return existsSync(this.#file(ip));
  }

  /** `undefined` if there is no lease, or one that is nobody's. */
  ownerOf(ip: IpAddress): LeaseOwner | undefined {
    const file = this.#file(ip);
    try {
      const text = native().readText(file);
      return text === undefined ? undefined : parseLease(text);
    } catch (cause) {
      throw new IoError("read lease", file, cause);
    }
  }

  /** When the lease was given, in milliseconds since 1970; undefined if there is none. */
  givenAtMs(ip: IpAddress): number | undefined {
    return statSync(this.#file(ip), { throwIfNoEntry: false })?.mtimeMs;
  }

  isOwnedBy(ip: IpAddress, owner: LeaseOwner): boolean {
    const found = this.ownerOf(ip);
    return found !== undefined && ownerName(found) === ownerName(owner);
  }

  /** Leaves nothing behind if it fails. @throws {IoError} EEXIST if there is a lease */
  create(ip: IpAddress, owner: LeaseOwner): void {
    const file = this.#file(ip);
    let isMade = false;
    try {
      const fd = openSync(file, "wx", 0o600);
      isMade = true;
      crashPoint("lease-file-made");
      try {
        writeAll(fd, formatLease(owner));
      } finally {
        closeSync(fd);
      }
    } catch (cause) {
      if (isMade) unlinkQuietly(file);
      throw new IoError("write lease", file, cause);
    }
  }

  /** Nothing happens if there is none. */
  discard(ip: IpAddress): void {
    const file = this.#file(ip);
    try {
      this.#trash.discard(file);
    } catch (cause) {
      throw new IoError("remove lease", file, cause);
    }
  }

  /** All addresses that have a file, without reading them. */
  addresses(): IpAddress[] {
    let names: string[];
    try {
      names = readdirSync(this.path);
    } catch (cause) {
      if (errorCode(cause) === "ENOENT") return [];
      throw new IoError("list leases", this.path, cause);
    }
    return names.flatMap((name) => {
      const ip = tryParseIp(name);
      // IPv6 has many texts for one address, of which the canonical one is a lease; IPv4 has one.
      return ip && (ip.family === 4 || formatIp(ip) === name) ? [ip] : [];
    });
  }

  /** `undefined` too for a file that a crash has left without a whole address. */
  lastReserved(setIndex: number): IpAddress | undefined {
    try {
      const ip = tryParseIp(native().readText(this.#lastReservedFile(setIndex))?.trim() ?? "");
      return ip && unmapped(ip);
    } catch {
      // It only says where to begin.
      return undefined;
    }
  }

  setLastReserved(setIndex: number, ip: IpAddress): void {
    const file = this.#lastReservedFile(setIndex);
    try {
      // Not emptied first: ext4 writes out a file at once that is cut to nothing and written again.
      const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT, 0o600);
      try {
        ftruncateSync(fd, writeAll(fd, formatIp(ip)));
      } finally {
        closeSync(fd);
      }
    } catch (cause) {
      throw new IoError("write", file, cause);
    }
  }

  /** Nanoseconds; `undefined` if there is no such directory. Changes whenever a lease is made or removed. */
  modifiedAt(): bigint | undefined {
    try {
      return native().modificationTime(this.path);
    } catch (cause) {
      if (errorCode(cause) === "ENOTDIR") return undefined;
      throw new IoError("look at lease directory", this.path, cause);
    }
  }

  setModifiedAt(seconds: number): void {
    utimesSync(this.path, seconds, seconds);
  }

  #file(ip: IpAddress): string {
    return `${this.path}/${formatIp(ip)}`;
  }

  #lastReservedFile(setIndex: number): string {
    return `${this.path}/last_reserved_ip.${setIndex}`;
  }
}

/** @returns the number of bytes */
function writeAll(fd: number, text: string): number {
  const bytes = Buffer.from(text);
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, done);
  return bytes.length;
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // The error that brought us here is the one to report.
  }
}
