import { readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import { cidr, int, ip, mac } from "#cni/schema-values.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { type LockOptions, withFileLock } from "#machine/lock.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { replaceFile } from "#machine/replace-file.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { ClientIdentity } from "./client.ts";
import type { Lease } from "./lease.ts";

/** Which attachment a lease is for. */
export interface LeaseKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
}

/** One attachment's lease, or that one is about to be asked for. */
export interface StoredLease {
  readonly key: LeaseKey;
  readonly netns: { readonly path: string; readonly dev: number; readonly ino: number };
  readonly bootId: string;
  /** In which the service is that keeps it. */
  readonly hostNamespace: { readonly dev: number; readonly ino: number };
  readonly identity: ClientIdentity;
  /** Undefined as long as no server has answered. */
  readonly lease: Lease | undefined;
}

/** JSON has no Infinity: what never comes is null. */
const time = v.union([
  v.number(),
  v.pipe(
    v.null(),
    v.transform(() => Number.POSITIVE_INFINITY),
  ),
]);
const numbers = v.object({ dev: v.number(), ino: v.number() });

const leaseSchema = goObject({
  address: cidr,
  server: ip,
  serverMac: mac,
  gateway: v.optional(ip),
  routes: v.array(goObject({ destination: cidr, gateway: v.optional(ip) })),
  nameservers: v.array(ip),
  domain: v.optional(v.string()),
  search: v.array(v.string()),
  times: v.object({ obtainedAt: time, renewAt: time, rebindAt: time, expiresAt: time }),
});

const schema = goObject({
  key: v.object({ network: v.string(), containerId: v.string(), ifName: v.string() }),
  netns: v.object({ path: v.string(), dev: v.number(), ino: v.number() }),
  bootId: v.string(),
  hostNamespace: numbers,
  identity: goObject({
    mac,
    broadcast: v.boolean(),
    requested: v.array(int()),
    provided: v.array(v.tuple([int(), v.string()])),
  }),
  lease: v.optional(leaseSchema),
});

const suffix = ".json";

/**
 * Leases on disk, one file each: `<state>/dhcp/<network>/<hash>.json`. They do not outlive the machine's start, since the
 * namespaces that they are for don't either, so nothing is synced. Safe for several processes at once.
 */
export class LeaseStore {
  readonly #directory: string;
  readonly #lockDirectory: string;

  constructor(directories: { readonly state: string; readonly run: string }) {
    this.#directory = join(directories.state, "dhcp");
    this.#lockDirectory = join(directories.run, "locks");
  }

  /** Runs `action` while nobody else changes this lease. */
  withLock<Value>(key: LeaseKey, action: () => Value | Promise<Value>, options: LockOptions): Promise<Value> {
    // As many lock files as the attachments' own have.
    const bucket = fileName(key).slice(0, 3);
    return withFileLock(join(this.#lockDirectory, `dhcp-${bucket}`), action, options);
  }

  /** @returns undefined where there is none that can be read */
  read(key: LeaseKey): StoredLease | undefined {
    return readFile(join(this.#directory, key.network, fileName(key)));
  }

  /** @throws {IoError} */
  write(stored: StoredLease): void {
    const { key } = stored;
    const directory = join(this.#directory, key.network);
    const path = join(directory, fileName(key));
    try {
      makeDirectory(directory, 0o700);
      replaceFile(path, JSON.stringify(encode(stored)), 0o600);
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
  list(network?: string): readonly StoredLease[] {
    const networks = network === undefined ? entries(this.#directory) : [network];
    return networks.flatMap((each) =>
      entries(join(this.#directory, each))
        .filter((name) => name.endsWith(suffix))
        .flatMap((name) => readFile(join(this.#directory, each, name)) ?? []),
    );
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

function readFile(path: string): StoredLease | undefined {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
  const parsed = v.safeParse(schema, json);
  if (!parsed.success) return undefined;
  const { identity, lease, ...rest } = parsed.output;
  const provided = identity.provided.map(([code, text]) => [code, Buffer.from(text, "base64")] as const);
  return {
    ...rest,
    identity: { ...identity, provided: new Map(provided) },
    lease: lease && {
      ...lease,
      gateway: lease.gateway,
      domain: lease.domain,
      routes: lease.routes.map(({ destination, gateway }) => ({ destination, gateway })),
    },
  };
}

function encode({ key, netns, bootId, hostNamespace, identity, lease }: StoredLease): object {
  return {
    key,
    netns,
    bootId,
    hostNamespace,
    identity: {
      ...identity,
      provided: [...identity.provided].map(([code, value]) => [code, Buffer.from(value).toString("base64")]),
    },
    ...(lease && {
      lease: {
        ...lease,
        address: formatCidr(lease.address),
        server: formatIp(lease.server),
        gateway: lease.gateway && formatIp(lease.gateway),
        routes: lease.routes.map(({ destination, gateway }) => ({
          destination: formatCidr(destination),
          gateway: gateway && formatIp(gateway),
        })),
        nameservers: lease.nameservers.map(formatIp),
      },
    }),
  };
}
