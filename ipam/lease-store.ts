import { accessSync, constants, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { CniError, ErrorCode } from "#cni/error.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { LockTimeoutError, withFileLock } from "#machine/lock.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import type { RecordedNamespace } from "#machine/namespace-identity.ts";
import { Trash } from "#machine/trash.ts";
import { type Cidr } from "#net/cidr.ts";
import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import {
  type AllocationContext,
  type Choice,
  choose,
  exhausted,
  hasFree,
  hasReclaimable,
  type OwnLeases,
  readOwnLeases,
} from "./allocation.ts";
import { LeaseDirectory } from "./lease-directory.ts";
import { type LeaseOwner, ownerName } from "./lease-owner.ts";
import { OwnerIndex, type OwnerRecord } from "./owner-index.ts";
import { assignRequested } from "./pool.ts";
import type { RangeSet } from "./range.ts";

export interface LeaseStoreOptions {
  /** host-local's `dataDir`. */
  readonly dataDir: string;
  readonly network: string;
  readonly bootId: string;
}

export interface AllocateRequest {
  readonly owner: LeaseOwner;
  readonly netns?: RecordedNamespace;
  /** One address of each. */
  readonly sets: readonly RangeSet[];
  /** Each has to be in a set of its own. */
  readonly requested: readonly IpAddress[];
  /** Looked at before anything is written. */
  readonly signal?: AbortSignal;
}

/** An address with the prefix length of its subnet, and that subnet's gateway. */
export interface Lease {
  readonly address: Cidr;
  readonly gateway: IpAddress;
}

/** Beside the networks' directories; no network's name begins with a dot. */
const indexRoot = ".netctl";

/** A holder needs well under a millisecond, or seconds where it rebuilds the index of a big network. */
const lockTimeoutMs = 30_000;

/** How many owners one turn of the lock removes in GC, so that ADDs get in between. */
const ownersPerTurn = 200;

/**
 * The addresses that one network has given out, on disk (`<dataDir>/<network>`), safe for many processes at once and for
 * the reference's host-local among them. What a call costs does not depend on the number of leases, unless somebody
 * else has changed the directory, or the pool is nearly full.
 *
 * Nothing is synced to disk: after a power loss no container is left that could miss its lease.
 * @throws {CniError} 5 where the disk refuses, 11 where the lock can't be had, beside what each method names
 */
export class LeaseStore {
  readonly #leases: LeaseDirectory;
  readonly #index: OwnerIndex;
  readonly #trash: Trash;

  constructor({ dataDir, network, bootId }: LeaseStoreOptions) {
    const directory = `${dataDir}/${indexRoot}/${network}`;
    this.#trash = new Trash(`${directory}/trash`);
    this.#leases = new LeaseDirectory(`${dataDir}/${network}`, this.#trash);
    this.#index = new OwnerIndex({ directory, trash: this.#trash, bootId });
  }

  /**
   * Gives one address of every set, or none at all. What the owner has from before a reboot, or for a namespace that is
   * another one now, it keeps where it fits, and loses where it does not.
   * @throws {CniError} 11 if a set has no address left or a requested one is taken, 7 if a requested one can't be had at
   *   all, 999 if the owner has an address of a set already
   */
  async allocate(request: AllocateRequest): Promise<Lease[]> {
    this.#makeDirectory();
    return await this.#exclusively(() => {
      const { owner, netns, sets, requested } = request;
      const context = { leases: this.#leases, index: this.#index, owner, ...(netns ? { netns } : {}) };
      const own = readOwnLeases(context);
      const choices = chooseAll(context, own, sets, requested);
      if (request.signal?.aborted) throw new CniError(ErrorCode.TryAgainLater, "ADD was cancelled");
      this.#write(context, own, choices);
      return choices.map(({ ip, range }) => ({
        address: { address: ip, prefixLength: range.subnet.prefixLength },
        gateway: range.gateway,
      }));
    });
  }

  /** Takes back all addresses of an owner. Nothing happens if it has none. */
  async release(owner: LeaseOwner): Promise<void> {
    if (!this.#exists()) return;
    await this.#locked(() => {
      if (!this.#hasIndex()) return this.#releaseUnindexed(owner);
      let records = this.#index.find(ownerName(owner));
      // A lease of the reference's first versions belongs to whichever interface comes.
      if (records.length === 0) records = this.#index.find(ownerName({ containerId: owner.containerId }));
      this.#removeAll(records);
    });
  }

  /**
   * Takes back one address, if that owner has it still.
   * @returns false if it has not
   */
  async releaseAddress(ip: IpAddress, owner: LeaseOwner): Promise<boolean> {
    if (!this.#exists()) return false;
    return await this.#exclusively(() => {
      if (!this.#leases.isOwnedBy(ip, owner)) return false;
      this.#leases.discard(ip);
      for (const record of this.#index.find(ownerName(owner))) this.#index.release(record, ip);
      this.#index.markCurrent(this.#leases);
      return true;
    });
  }

  /** Removes lease files that are nobody's, as a power loss leaves them behind. Reads all leases. */
  async sweep(): Promise<void> {
    if (!this.#exists()) return;
    await this.#locked(() => this.#index.rebuild(this.#leases));
  }

  /** The addresses that an owner has now. */
  async addressesOf(owner: LeaseOwner): Promise<IpAddress[]> {
    if (!this.#exists()) return [];
    return await this.#exclusively(() => {
      const { leases } = this;
      const exact = this.#index.find(ownerName(owner)).flatMap((record) => record.addresses);
      const found = exact.filter((ip) => leases.isOwnedBy(ip, owner));
      if (found.length > 0) return found;
      const idOnly = { containerId: owner.containerId };
      const legacy = this.#index.find(ownerName(idOnly)).flatMap((record) => record.addresses);
      return legacy.filter((ip) => leases.isOwnedBy(ip, idOnly));
    });
  }

  /**
   * Takes back the addresses of everybody who is not in the list, whoever gave them out. Goes on after an error, and
   * reports all of them at the end.
   */
  async collect(valid: readonly { readonly containerId: string; readonly ifName: string }[]): Promise<void> {
    if (!this.#exists()) return;
    // An id alone stands for all interfaces of a container, in leases of the reference's first versions.
    const names = new Set(
      valid.flatMap((each) => [ownerName(each), ownerName({ containerId: each.containerId })]),
    );
    const stale = await this.#exclusively(() => {
      this.#trash.sweep();
      return this.#index.names().filter((name) => !names.has(name));
    });
    const errors: unknown[] = [];
    for (let start = 0; start < stale.length; start += ownersPerTurn) {
      await this.#exclusively(() => {
        for (const name of stale.slice(start, start + ownersPerTurn)) {
          try {
            this.#removeAll(this.#index.find(name));
          } catch (error) {
            errors.push(error);
          }
        }
      });
      await nextTurn();
    }
    if (errors.length > 0) {
      throw new CniError(
        ErrorCode.IoFailure,
        `Cannot take back all stale addresses of ${JSON.stringify(this.leases.path)}`,
        { cause: new AggregateError(errors) },
      );
    }
  }

  /**
   * Checks that an ADD would find an address in every set and could record it. Looks at a few addresses as a rule, lists
   * the directory if those are taken, and takes the lock only then.
   * @throws {CniError} 50
   */
  async checkRoom(sets: readonly RangeSet[]): Promise<void> {
    checkWritable(this.leases.path);
    for (const [setIndex, set] of sets.entries()) {
      if (hasFree(this.leases, set, setIndex)) continue;
      const isFree = await this.#exclusively(() => {
        return hasFree(this.leases, set, setIndex) || hasReclaimable(this.leases, this.#index, set);
      });
      if (!isFree) throw new CniError(ErrorCode.PluginNotAvailable, exhausted(set).message);
    }
  }

  /** The leases' own directory, for reading without the lock. */
  get leases(): LeaseDirectory {
    return this.#leases;
  }

  /** Runs under the lock with an index that is right. `action` must not wait for anything. */
  async #exclusively<Value>(action: () => Value): Promise<Value> {
    return await this.#locked(() => {
      this.#ensureIndex();
      return action();
    });
  }

  #ensureIndex(): void {
    if (!this.#index.isCurrent(this.#leases)) this.#index.rebuild(this.#leases);
  }

  /** False where there is no room for it: to take something back needs none. */
  #hasIndex(): boolean {
    try {
      this.#ensureIndex();
      return true;
    } catch (error) {
      if (["ENOSPC", "EDQUOT"].includes(errorCode(error) ?? "")) return false;
      throw error;
    }
  }

  /** Reads all leases. */
  #releaseUnindexed(owner: LeaseOwner): void {
    for (const ip of this.#leases.addresses()) {
      if (this.#leases.isOwnedBy(ip, owner)) this.#leases.discard(ip);
    }
  }

  async #locked<Value>(action: () => Value): Promise<Value> {
    try {
      return await withFileLock(
        this.#leases.lockPath,
        () => {
          crashPoint("leases-locked");
          return action();
        },
        { timeoutMs: lockTimeoutMs },
      );
    } catch (error) {
      if (error instanceof LockTimeoutError) {
        throw new CniError(ErrorCode.TryAgainLater, error.message, { cause: error });
      }
      throw asIoFailure(error);
    }
  }

  /** Puts the choices on disk: the record first, so that whatever lease file there is has one. */
  #write(context: AllocationContext, own: OwnLeases, choices: readonly Choice[]): void {
    const { leases, index, owner, netns } = context;
    const name = ownerName(owner);
    const before = own.records;
    const made: IpAddress[] = [];
    try {
      index.put(name, [...own.live, ...choices.map(({ ip }) => ip)], netns);
      crashPoint("lease-owner-recorded");
      for (const { ip, from, isKept, setIndex } of choices) {
        if (!isKept) {
          if (from) {
            leases.discard(ip);
            index.release(from, ip);
          }
          leases.create(ip, owner);
          made.push(ip);
          crashPoint("lease-made");
        }
        leases.setLastReserved(setIndex, ip);
        crashPoint("last-reserved-written");
      }
      for (const { ip } of own.dead) {
        if (!choices.some((choice) => equalIp(choice.ip, ip))) leases.discard(ip);
      }
      for (const record of before) {
        if (index.isEarlier(record) || index.isForeign(record)) index.remove(record);
      }
    } catch (error) {
      undo(() => {
        for (const ip of made) leases.discard(ip);
        index.restore(name, before);
      });
      throw error;
    }
    index.markCurrent(leases);
    crashPoint("leases-marked");
  }

  #removeAll(records: readonly OwnerRecord[]): void {
    if (records.length === 0) return;
    for (const record of records) {
      for (const ip of record.addresses) {
        const holder = this.#leases.ownerOf(ip);
        if (holder && ownerName(holder) === record.name) this.#leases.discard(ip);
        crashPoint("lease-removed");
      }
      this.#index.remove(record);
      crashPoint("lease-owner-forgotten");
    }
    this.#index.markCurrent(this.#leases);
  }

  #exists(): boolean {
    return this.#leases.modifiedAt() !== undefined;
  }

  #makeDirectory(): void {
    try {
      // What the reference gives it.
      if (!this.#exists()) makeDirectory(this.#leases.path, 0o755);
    } catch (cause) {
      throw asIoFailure(new IoError("make lease directory", this.#leases.path, cause));
    }
  }
}

/** @throws {CniError} 7 if a requested address is in no set, or in the same as another one */
function chooseAll(
  context: AllocationContext,
  own: OwnLeases,
  sets: readonly RangeSet[],
  requested: readonly IpAddress[],
): Choice[] {
  const { perSet, left } = assignRequested(sets, requested);
  const choices = sets.map((set, setIndex) => {
    try {
      return choose(context, own, { set, setIndex, requested: perSet[setIndex] });
    } catch (error) {
      if (!(error instanceof CniError)) throw error;
      throw new CniError(error.code, `failed to allocate for range ${setIndex}: ${error.message}`, {
        details: error.details,
        cause: error,
      });
    }
  });
  if (left.length > 0) {
    const list = left.map((ip) => formatIp(ip)).join(" ");
    throw new CniError(ErrorCode.InvalidNetworkConfig, `failed to allocate all requested IPs: ${list}`);
  }
  return choices;
}

/** After a failure. Where this fails too, the next call finds out what is left by reading the leases. */
function undo(action: () => void): void {
  try {
    action();
  } catch {
    // The error that brought us here is the one to report.
  }
}

function asIoFailure(error: unknown): unknown {
  if (error instanceof CniError || errorCode(error) === undefined) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new CniError(ErrorCode.IoFailure, message, { cause: error });
}

/** @throws {CniError} 50 if nothing can be written at `path`, or where it would be made */
function checkWritable(path: string): void {
  for (let each = path; ; each = dirname(each)) {
    try {
      accessSync(each, constants.W_OK);
      const { files, ffree, blocks, bfree } = statfsSync(each);
      // Some file systems do not count the one or the other and say 0 of 0.
      if ((files > 0 && ffree === 0) || (blocks > 0 && bfree === 0)) {
        throw new CniError(
          ErrorCode.PluginNotAvailable,
          `Cannot record leases in ${JSON.stringify(path)}: disk full`,
        );
      }
      return;
    } catch (cause) {
      if (errorCode(cause) === "ENOENT" && each !== dirname(each)) continue;
      if (cause instanceof CniError) throw cause;
      const { message } = new IoError("record leases in", path, cause);
      throw new CniError(ErrorCode.PluginNotAvailable, message, { cause });
    }
  }
}
