import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { errorCode, IoError } from "#machine/io-error.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { replaceFile } from "#machine/replace-file.ts";
import { type Cidr, containsIp } from "#net/cidr.ts";
import { tryParseIp } from "#net/ip.ts";

/**
 * What an ADD on this host needs to know of a network, on disk, so that it works while the engine is away and while
 * the agent does not run. Written by the agent alone.
 */
const schema = v.object({
  v: v.literal(1),
  name: v.string(),
  id: v.string(),
  vni: v.number(),
  /** Of containers. */
  mtu: v.number(),
  internal: v.boolean(),
  encrypted: v.optional(v.boolean(), false),
  mode: v.optional(v.picklist(["l3", "l2"]), "l3"),
  subnets: v.array(v.string()),
  /** Of this host, in the order in which they were claimed. */
  blocks: v.array(v.string()),
  /** Devices by which the other hosts' packets come. */
  tunnels: v.array(v.string()),
  state: v.picklist(["active", "deleting"]),
});
export type LocalNetwork = v.InferOutput<typeof schema>;

/** No network's name begins with a dot. */
const toldPrefix = ".told-";

/** Longer than any ADD waits. */
const wishMs = 20_000;

/** The files by which agent and plugin talk. */
export class LocalNetworks {
  readonly #networks: string;
  readonly #wanted: string;
  readonly #leases: string;
  /** Contents as they were written last. */
  readonly #written = new Map<string, string>();

  /** @param directory the overlay's */
  constructor(directory: string) {
    this.#networks = join(directory, "networks");
    this.#wanted = join(directory, "wanted");
    this.#leases = join(directory, "leases");
  }

  /** host-local's dataDir for all networks. */
  get leaseDirectory(): string {
    return this.#leases;
  }

  /** To be watched. */
  get wantedDirectory(): string {
    makeDirectory(this.#wanted, 0o700);
    return this.#wanted;
  }

  /** @throws {IoError} */
  read(name: string): LocalNetwork | undefined {
    const path = this.#pathOf(name);
    try {
      return v.parse(schema, JSON.parse(readFileSync(path, "utf8")));
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw new IoError("read", path, error);
    }
  }

  /** Brings the files to what `networks` says, each whole or not at all. @throws {IoError} */
  replace(networks: readonly LocalNetwork[]): void {
    makeDirectory(this.#networks, 0o700);
    const names = new Set(networks.map((network) => `${network.name}.json`));
    for (const network of networks) this.#write(network);
    for (const file of readdirSync(this.#networks)) {
      if (names.has(file)) continue;
      rmSync(join(this.#networks, file), { force: true });
      this.#written.delete(file);
    }
  }

  #write(network: LocalNetwork): void {
    const file = `${network.name}.json`;
    const text = `${JSON.stringify(network)}\n`;
    if (this.#written.get(file) === text) return;
    const path = this.#pathOf(network.name);
    try {
      replaceFile(path, text, 0o600);
    } catch (cause) {
      throw new IoError("write", path, cause);
    }
    this.#written.set(file, text);
  }

  /** Tells the agent that there is no address left for an ADD. @throws {IoError} */
  want(name: string): void {
    const path = join(this.wantedDirectory, name);
    try {
      writeFileSync(path, "", { mode: 0o600 });
    } catch (cause) {
      throw new IoError("write", path, cause);
    }
  }

  wanted(): readonly string[] {
    return readdirSync(this.wantedDirectory).filter((file) => !file.startsWith("."));
  }

  /** Tells the agent that a container has come or gone in a stretched network. @throws {IoError} */
  tell(name: string): void {
    this.want(`${toldPrefix}${name}`);
  }

  /** The networks of which that was told since the last time. */
  told(): readonly string[] {
    const files = readdirSync(this.wantedDirectory).filter((file) => file.startsWith(toldPrefix));
    // Before anybody looks: what is told meanwhile is told anew.
    for (const file of files) this.satisfied(file);
    return files.map((file) => file.slice(toldPrefix.length));
  }

  /** Takes the wish for addresses away if nobody can be waiting for them any more. */
  forgetOldWish(name: string): void {
    const changed = statSync(join(this.#wanted, name), { throwIfNoEntry: false })?.mtimeMs;
    if (changed !== undefined && Date.now() - changed > wishMs) this.satisfied(name);
  }

  satisfied(name: string): void {
    rmSync(join(this.#wanted, name), { force: true });
  }

  /** How many addresses are given out of each of `blocks`, and those that are of none. */
  usage(
    name: string,
    blocks: readonly Cidr[],
  ): { readonly counts: readonly number[]; readonly strays: readonly string[] } {
    const counts = blocks.map(() => 0);
    const strays: string[] = [];
    for (const file of this.#leaseFiles(name)) {
      const ip = tryParseIp(file);
      if (!ip) continue;
      const index = blocks.findIndex((block) => block.address.family === ip.family && containsIp(block, ip));
      if (index < 0) strays.push(file);
      else counts[index] = (counts[index] ?? 0) + 1;
    }
    return { counts, strays };
  }

  #leaseFiles(name: string): readonly string[] {
    try {
      return readdirSync(join(this.#leases, name));
    } catch (error) {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    }
  }

  #pathOf(name: string): string {
    return join(this.#networks, `${name}.json`);
  }
}
