import { readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { type LockOptions, withFileLock } from "#machine/lock.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { replaceFile } from "#machine/replace-file.ts";
import { sha256Hex } from "#machine/sha256.ts";

/** Which attachment a lease is for. */
export interface LeaseKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
}

/** One attachment's lease of one protocol, or that one is about to be asked for. */
export interface StoredLease<Identity, Lease> {
  readonly key: LeaseKey;
  readonly netns: { readonly path: string; readonly dev: number; readonly ino: number };
  readonly bootId: string;
  /** In which the service is that keeps it. */
  readonly hostNamespace: { readonly dev: number; readonly ino: number };
  /** The interface has addresses by another protocol of DHCP too. */
  readonly isShared: boolean;
  readonly identity: Identity;
  /** Undefined as long as no server has answered. */
  readonly lease: Lease | undefined;
}

/** How one protocol's leases are written. */
export interface LeaseFormat<Identity, Lease> {
  /** Name of its directory in the state directory. */
  readonly directory: string;
  readonly identity: v.GenericSchema<unknown, Identity>;
  readonly lease: v.GenericSchema<unknown, Lease>;
  encodeIdentity(identity: Identity): object;
  encodeLease(lease: Lease): object;
}

const numbers = v.object({ dev: v.number(), ino: v.number() });

const schema = goObject({
  key: v.object({ network: v.string(), containerId: v.string(), ifName: v.string() }),
  netns: v.object({ path: v.string(), dev: v.number(), ino: v.number() }),
  bootId: v.string(),
  hostNamespace: numbers,
  isShared: v.optional(v.boolean(), false),
  identity: v.unknown(),
  lease: v.optional(v.unknown()),
});

const suffix = ".json";

/**
 * Leases of one protocol on disk, one file each: `<state>/dhcp/<network>/<hash>.json`, or in `dhcp6`. They do not outlive the machine's start, since the
 * namespaces that they are for don't either, so nothing is synced. Safe for several processes at once.
 */
export class LeaseStore<Identity, Lease> {
  readonly #format: LeaseFormat<Identity, Lease>;
  readonly #directory: string;
  readonly #lockDirectory: string;

  constructor(
    format: LeaseFormat<Identity, Lease>,
    directories: { readonly state: string; readonly run: string },
  ) {
    this.#format = format;
    this.#directory = join(directories.state, format.directory);
    this.#lockDirectory = join(directories.run, "locks");
  }

  /** Runs `action` while nobody else changes this lease. */
  withLock<Value>(key: LeaseKey, action: () => Value | Promise<Value>, options: LockOptions): Promise<Value> {
    // As many lock files as the attachments' own have.
    const bucket = fileName(key).slice(0, 3);
    return withFileLock(join(this.#lockDirectory, `${this.#format.directory}-${bucket}`), action, options);
  }

  /** @returns undefined where there is none that can be read */
  read(key: LeaseKey): StoredLease<Identity, Lease> | undefined {
    return this.#readFile(join(this.#directory, key.network, fileName(key)));
  }

  /** @throws {IoError} */
  write(stored: StoredLease<Identity, Lease>): void {
    const { key } = stored;
    const directory = join(this.#directory, key.network);
    const path = join(directory, fileName(key));
    try {
      makeDirectory(directory, 0o700);
      replaceFile(path, JSON.stringify(this.#encode(stored)), 0o600);
      writeFileSync(join(this.#directory, ".changed"), "");
    } catch (cause) {
      throw new IoError("write DHCP lease", path, cause);
    }
  }

  /** Nothing happens if there is none. @throws {IoError} */
  remove(key: LeaseKey): void {
    const path = join(this.#directory, key.network, fileName(key));
    try {
      unlinkSync(path);
      writeFileSync(join(this.#directory, ".changed"), "");
    } catch (cause) {
      if (errorCode(cause) !== "ENOENT") throw new IoError("remove DHCP lease", path, cause);
    }
  }

  /** Changes with every write of any process; 0 where nothing was ever written. */
  changedAt(): number {
    try {
      return statSync(join(this.#directory, ".changed")).mtimeMs;
    } catch {
      return 0;
    }
  }

  /** All leases, or those of one network. */
  list(network?: string): readonly StoredLease<Identity, Lease>[] {
    const networks = network === undefined ? entries(this.#directory) : [network];
    return networks.flatMap((each) =>
      entries(join(this.#directory, each))
        .filter((name) => name.endsWith(suffix))
        .flatMap((name) => this.#readFile(join(this.#directory, each, name)) ?? []),
    );
  }

  /** Whose leases there are of one network. */
  keys(network: string): readonly LeaseKey[] {
    return this.list(network).map(({ key }) => key);
  }

  #readFile(path: string): StoredLease<Identity, Lease> | undefined {
    let json: unknown;
    try {
      json = JSON.parse(readFileSync(path, "utf8"));
    } catch {
      return undefined;
    }
    const parsed = v.safeParse(schema, json);
    if (!parsed.success) return undefined;
    const identity = v.safeParse(this.#format.identity, parsed.output.identity);
    const lease = v.safeParse(v.optional(this.#format.lease), parsed.output.lease);
    if (!identity.success || !lease.success) return undefined;
    return { ...parsed.output, identity: identity.output, lease: lease.output };
  }

  #encode({ identity, lease, ...rest }: StoredLease<Identity, Lease>): object {
    return {
      ...rest,
      identity: this.#format.encodeIdentity(identity),
      ...(lease === undefined ? {} : { lease: this.#format.encodeLease(lease) }),
    };
  }
}

function fileName({ network, containerId, ifName }: LeaseKey): string {
  return `${sha256Hex(JSON.stringify([network, containerId, ifName]))}${suffix}`;
}

function entries(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch (cause) {
    if (["ENOENT", "ENOTDIR"].includes(errorCode(cause) ?? "")) return [];
    throw new IoError("list DHCP leases", path, cause);
  }
}
