import { existsSync, readdirSync, renameSync, rmdirSync, symlinkSync, utimesSync } from "node:fs";
import { errorCode, IoError } from "#machine/io-error.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import type { RecordedNamespace } from "#machine/namespace-identity.ts";
import type { Trash } from "#machine/trash.ts";
import { native } from "#native/addon.ts";
import { equalIp, formatIp, type IpAddress, tryParseIp } from "#net/ip.ts";
import type { LeaseDirectory } from "./lease-directory.ts";
import { ownerName } from "./lease-owner.ts";

/** The addresses of one owner. */
export interface OwnerRecord {
  readonly folder: string;
  /** `ownerName()` of the owner. */
  readonly name: string;
  readonly addresses: readonly IpAddress[];
  /** For which they were given out. */
  readonly netns?: RecordedNamespace;
}

const foreignFolder = "foreign";
const earlierFolder = "earlier";
const bootPrefix = "boot-";

/**
 * Who has which addresses, so that nothing has to read all leases. One symbolic link per owner, whose text is its
 * addresses and its namespace: `10.1.0.5,fd00::5 4:4026532246 /run/netns/x`. A link comes into being with its text, in one step,
 * and costs no block of its own; on a journalling file system it is on disk before the data of a lease file written
 * after it.
 *
 * Three folders: `boot-<id>` for what this boot has given out, `earlier` for what another one has (its containers are
 * gone), `foreign` for leases that somebody else has written, of which nothing else is known.
 *
 * The index is right if this boot has a folder and the index's directory carries the same modification time as the
 * leases' own. After each change both are set to one time in the recent past, at which no kernel clock can set it
 * again; whoever else makes or removes a lease changes the one of them. Then `rebuild` reads everything once.
 */
export class OwnerIndex {
  readonly #directory: string;
  readonly #trash: Trash;
  readonly #bootFolder: string;

  constructor(options: { readonly directory: string; readonly trash: Trash; readonly bootId: string }) {
    this.#directory = options.directory;
    this.#trash = options.trash;
    this.#bootFolder = `${bootPrefix}${options.bootId}`;
  }

  isCurrent(leases: LeaseDirectory): boolean {
    const stamp = native().modificationTime(this.#directory);
    return (
      stamp !== undefined &&
      stamp === leases.modifiedAt() &&
      existsSync(`${this.#directory}/${this.#bootFolder}`)
    );
  }

  /** States that the index agrees with the leases. */
  markCurrent(leases: LeaseDirectory): void {
    // Far enough back for file systems that count whole seconds; a fraction makes it differ from the last mark.
    const seconds = Date.now() / 1000 - 2 - Math.random();
    try {
      leases.setModifiedAt(seconds);
      utimesSync(this.#directory, seconds, seconds);
    } catch {
      // Not permitted: the next one rebuilds.
    }
  }

  isEarlier(record: OwnerRecord): boolean {
    return record.folder === earlierFolder;
  }

  isForeign(record: OwnerRecord): boolean {
    return record.folder === foreignFolder;
  }

  /** The records of one owner; more than one only if somebody else has given it addresses as well. */
  find(name: string): OwnerRecord[] {
    return [this.#bootFolder, earlierFolder, foreignFolder].flatMap(
      (folder) => this.#read(folder, name) ?? [],
    );
  }

  /** The record of an owner whose leases somebody else has written. */
  findForeign(name: string): OwnerRecord | undefined {
    return this.#read(foreignFolder, name);
  }

  /** Names of all owners. */
  names(): string[] {
    return this.#folders().flatMap((folder) => this.#list(folder));
  }

  /** Records of other boots: their addresses can be given out again. */
  *earlier(): Generator<OwnerRecord> {
    for (const name of this.#list(earlierFolder)) {
      const record = this.#read(earlierFolder, name);
      if (record) yield record;
    }
  }

  hasEarlier(): boolean {
    return existsSync(`${this.#directory}/${earlierFolder}`);
  }

  /** Writes the record of an owner for this boot, in place of the one it has. */
  put(name: string, addresses: readonly IpAddress[], netns: RecordedNamespace | undefined): void {
    this.#write({ folder: this.#bootFolder, name, addresses, ...(netns ? { netns } : {}) });
  }

  remove(record: OwnerRecord): void {
    const path = this.#path(record.folder, record.name);
    try {
      this.#trash.discard(path);
      if (record.folder === earlierFolder) this.#removeFolderIfEmpty(earlierFolder);
    } catch (cause) {
      throw new IoError("remove lease record", path, cause);
    }
  }

  /** Puts back the record that `put` has replaced, if there was one. */
  restore(name: string, before: readonly OwnerRecord[]): void {
    const replaced = before.find((record) => record.folder === this.#bootFolder);
    if (replaced) this.#write(replaced);
    else this.remove({ folder: this.#bootFolder, name, addresses: [] });
  }

  /** Takes one address out of a record: another owner has it now. */
  release(record: OwnerRecord, ip: IpAddress): void {
    const { addresses: now } = this.#read(record.folder, record.name) ?? record;
    const addresses = now.filter((each) => !equalIp(each, ip));
    if (addresses.length > 0) this.#write({ ...record, addresses });
    else this.remove(record);
  }

  /**
   * Reads all leases and all records and makes the second agree with the first. Removes leases that are nobody's. Cost:
   * one read per lease, so seconds for a full /16; needed once per boot, and after somebody else has changed something.
   */
  rebuild(leases: LeaseDirectory): void {
    this.#makeFolder(this.#bootFolder);
    this.#trash.sweep();
    const known = new Map<string, OwnerRecord>();
    const before: OwnerRecord[] = [];
    for (const folder of this.#folders()) {
      for (const name of this.#list(folder)) {
        const record = this.#read(folder, name) ?? { folder, name, addresses: [] };
        before.push(record);
        for (const ip of record.addresses) known.set(`${name} ${formatIp(ip)}`, record);
      }
    }
    const after = new Map<string, OwnerRecord>();
    for (const ip of leases.addresses()) {
      const owner = leases.ownerOf(ip);
      if (!owner) {
        leases.discard(ip);
        continue;
      }
      const name = ownerName(owner);
      const record = known.get(`${name} ${formatIp(ip)}`);
      const folder = record ? this.#folderNow(record.folder) : foreignFolder;
      const key = `${folder}/${name}`;
      const addresses = [...(after.get(key)?.addresses ?? []), ip];
      after.set(key, { folder, name, addresses, ...(record?.netns ? { netns: record.netns } : {}) });
    }
    for (const record of after.values()) this.#write(record);
    for (const record of before) {
      if (!after.has(`${record.folder}/${record.name}`)) this.remove(record);
    }
    for (const folder of this.#folders()) if (folder !== this.#bootFolder) this.#removeFolderIfEmpty(folder);
    this.markCurrent(leases);
  }

  #folderNow(folder: string): string {
    return folder.startsWith(bootPrefix) && folder !== this.#bootFolder ? earlierFolder : folder;
  }

  #folders(): string[] {
    return this.#list("").filter(
      (name) => name.startsWith(bootPrefix) || name === earlierFolder || name === foreignFolder,
    );
  }

  #list(folder: string): string[] {
    const path = `${this.#directory}/${folder}`;
    try {
      return readdirSync(path);
    } catch (cause) {
      if (errorCode(cause) === "ENOENT") return [];
      throw new IoError("list lease records", path, cause);
    }
  }

  #read(folder: string, name: string): OwnerRecord | undefined {
    const path = this.#path(folder, name);
    let text: string | undefined;
    try {
      // Something else than a link is not ours.
      text = native().readLink(path);
    } catch (cause) {
      throw new IoError("read lease record", path, cause);
    }
    if (text === undefined) return undefined;
    const [, list = "", dev, ino, netnsPath] = /^(\S*)(?: (\d+):(\d+) (.*))?$/s.exec(text) ?? [];
    const addresses = list.split(",").flatMap((each) => tryParseIp(each) ?? []);
    return {
      folder,
      name,
      addresses,
      ...(netnsPath === undefined ? {} : { netns: { path: netnsPath, dev: Number(dev), ino: Number(ino) } }),
    };
  }

  #write({ folder, name, addresses, netns }: OwnerRecord): void {
    const path = this.#path(folder, name);
    const list = addresses.map((ip) => formatIp(ip)).join(",");
    const text = netns ? `${list} ${netns.dev}:${netns.ino} ${netns.path}` : list;
    try {
      try {
        symlinkSync(text, path);
        return;
      } catch (error) {
        if (errorCode(error) === "ENOENT") {
          this.#makeFolder(folder);
          symlinkSync(text, path);
          return;
        }
        if (errorCode(error) !== "EEXIST") throw error;
      }
      if (native().readLink(path) === text) return;
      // Under the lock nobody else makes this file; one that a crash has left is in the way.
      const next = this.#path("", "next");
      this.#trash.discard(next);
      symlinkSync(text, next);
      renameSync(next, path);
    } catch (cause) {
      throw new IoError("write lease record", path, cause);
    }
  }

  #path(folder: string, name: string): string {
    return `${this.#directory}/${folder}/${name}`;
  }

  #makeFolder(folder: string): void {
    const path = `${this.#directory}/${folder}`;
    try {
      makeDirectory(path, 0o700);
    } catch (cause) {
      throw new IoError("make directory", path, cause);
    }
  }

  #removeFolderIfEmpty(folder: string): void {
    try {
      rmdirSync(`${this.#directory}/${folder}`);
    } catch {
      // ENOTEMPTY, or gone.
    }
  }
}
