import type { Changes, Entry } from "#engine/engine.ts";
import { ClusterList } from "./cluster-list.ts";
import type { Keys } from "./keys.ts";
import type { NameTable } from "./name-table.ts";
import {
  type BlockRecord,
  type ClusterRecord,
  type EndpointRecord,
  type HostRecord,
  type NetworkRecord,
  RecordError,
  readBlock,
  readCluster,
  readEndpoint,
  readHost,
  readNetwork,
  readVni,
} from "./record.ts";
import { type Resident, Segment } from "./segment.ts";

/** A block, and which network it is of. */
export interface KnownBlock {
  readonly entry: Entry;
  readonly network: string;
  readonly record: BlockRecord;
}

/** A container of a stretched network, and on which host it is. */
export interface KnownEndpoint {
  readonly entry: Entry;
  readonly host: string;
  readonly record: EndpointRecord;
}

export interface KnownNetwork {
  readonly entry: Entry;
  readonly record: NetworkRecord;
}

/** Why the engine is not believed, and what an operator does about it; halves of sentences. */
export interface Distrust {
  readonly reason: string;
  readonly remedy: string;
}

/** What the agent may believe of a list that it did not expect. */
export type Trust = { readonly trusted: true } | ({ readonly trusted: false } & Distrust);

/** @param remedy where writing the cluster back is not what helps */
function distrust(
  reason: string,
  remedy = '"netctl cluster adopt", on the host that was connected last, writes back what it knows',
): Trust {
  return { trusted: false, reason, remedy };
}

/** Of the hosts that were there before, so many must be there in a list that replaces all that was known. */
const leastShareOfHosts = 0.5;

/**
 * What this host knows of the cluster. A value that can't be read never counts as gone: what was known of it before
 * stays, and is named under `problems`.
 */
export class ClusterView {
  readonly #keys: Keys;
  /** Told of each key whose entry has come, changed or gone. */
  readonly #changed: (key: string) => void;
  /** All but names. */
  readonly #entries = new Map<string, Entry>();
  #revision = 0;
  readonly #networks = new Map<string, KnownNetwork>();
  readonly #hosts = new Map<string, HostRecord>();
  readonly #blocks = new Map<string, KnownBlock>();
  /** By network, then by host: another list whenever it changes. */
  readonly #blocksByHost = new Map<string, Map<string, readonly KnownBlock[]>>();
  #names: NameTable;
  /** By network. */
  readonly #segments = new Map<string, Segment>();
  readonly #problems = new Map<string, string>();
  #cluster: ClusterRecord | undefined;

  constructor(keys: Keys, changed: (key: string) => void = () => undefined) {
    this.#keys = keys;
    this.#changed = changed;
    this.#names = new ClusterList(keys).names;
  }

  /** Everything up to here is in it. */
  get revision(): number {
    return this.#revision;
  }

  get cluster(): ClusterRecord | undefined {
    return this.#cluster;
  }

  get networks(): ReadonlyMap<string, KnownNetwork> {
    return this.#networks;
  }

  get hosts(): ReadonlyMap<string, HostRecord> {
    return this.#hosts;
  }

  /** By key. */
  get blocks(): ReadonlyMap<string, KnownBlock> {
    return this.#blocks;
  }

  /** The hosts that have addresses in a network, with their blocks: the same list until one of those changes. */
  blocksByHost(network: string): ReadonlyMap<string, readonly KnownBlock[]> {
    return this.#blocksByHost.get(network) ?? noBlocks;
  }

  /** Ids of the hosts that have addresses in a network. */
  holdersOf(network: string): readonly string[] {
    return [...this.blocksByHost(network).keys()];
  }

  /** Containers of a stretched network, by key. */
  endpointsOf(network: string): ReadonlyMap<string, KnownEndpoint> {
    return this.#segments.get(network)?.endpoints ?? noEndpoints;
  }

  /** The same as others reach them. */
  residentsOf(network: string): Iterable<Resident> {
    return this.#segments.get(network)?.residents ?? [];
  }

  /** What containers of a network are called: looks through all names that there are. */
  namesOf(network: string): Iterable<Entry> {
    return this.#names.entries(this.#keys.namesOf(network));
  }

  /** What is known by a key. */
  entry(key: string): Entry | undefined {
    return this.#names.covers(key) ? this.#names.get(key) : this.#entries.get(key);
  }

  get names(): NameTable {
    return this.#names;
  }

  /** All but names: nothing that is forwarded depends on those, and there may be very many. */
  get others(): ReadonlyMap<string, Entry> {
    return this.#entries;
  }

  /** Ids of the hosts that have addresses in encrypted networks; undefined where there is no such network. */
  usersOfEncryption(): ReadonlySet<string> | undefined {
    const encrypted = [...this.#networks.values()].filter(({ record }) => record.encrypted);
    if (encrypted.length === 0) return undefined;
    return new Set(encrypted.flatMap(({ record }) => this.holdersOf(record.name)));
  }

  get problems(): readonly string[] {
    return [...this.#problems.values()];
  }

  /** What the watch has said. */
  apply({ revision, changes }: Changes): void {
    for (const change of changes) {
      if (change.kind === "put") this.#put(change.entry);
      else this.#delete(change.key);
    }
    this.#revision = Math.max(this.#revision, revision);
  }

  /**
   * Whether a list may replace what is known. An engine that was emptied, restored from an old copy or mixed up with
   * another gives lists too; to follow it would take the network down.
   * @param uuid of the cluster that this host is of
   * @param isExact false: what is known is what was on disk, of which the end may be missing
   */
  judge({ revision, others }: ClusterList, uuid: string, isExact = true): Trust {
    const stored = others.get(this.#keys.cluster);
    if (!stored) return distrust("the engine knows no cluster: it was emptied, or is another one");
    const cluster = readCluster(stored.key, stored.value);
    if (cluster.uuid !== uuid)
      return distrust(
        `the engine has cluster ${cluster.uuid}, and this host is of ${uuid}`,
        'give the host its own engine again, or "netctl cluster leave" and "join"',
      );
    // Written back into an engine that had lost it, and meant to be believed.
    if ((cluster.generation ?? 0) > (this.#cluster?.generation ?? 0)) return { trusted: true };
    if (revision < this.#revision)
      return distrust(
        `the engine is at revision ${revision} and was at ${this.#revision}: it was restored from an old copy`,
      );
    const other = isExact ? this.#otherHistory(others) : undefined;
    if (other)
      return distrust(
        `the engine has ${other.key} of revision ${other.revision}, which was gone or another at ${this.#revision}: it was restored from an old copy`,
      );
    const cut = [...this.#networks.values()].find(
      ({ entry, record }) => !others.has(entry.key) && this.#isLeftOver(record, others),
    );
    if (cut) return distrustLoss(cut);
    return this.#judgeHosts(
      (id) => others.has(this.#keys.host(id)),
      (id) => others.has(this.#keys.left(id)),
    );
  }

  /**
   * Whether these keys may go, of which the watch has told. With the cluster's own record, or with most of the hosts,
   * everything goes, and nobody has meant that. Nor has anybody removed a network that was not marked before.
   */
  judgeLoss(keys: ReadonlySet<string>): Trust {
    // Nearly always: what is below looks through all hosts.
    if (keys.size === 0) return { trusted: true };
    if (keys.has(this.#keys.cluster)) return distrust("the engine is being emptied");
    const cut = [...this.#networks.values()].find(
      ({ entry, record }) => record.state === "active" && keys.has(entry.key),
    );
    if (cut) return distrustLoss(cut);
    return this.#judgeHosts(
      (id) => !keys.has(this.#keys.host(id)),
      (id) => this.#entries.has(this.#keys.left(id)),
    );
  }

  /**
   * What is not as it was at the revision up to which all is known, and has not been written since. An engine that was
   * restored from an old copy may have come further than it was, by what other hosts have written, before anybody looks.
   */
  #otherHistory(others: ReadonlyMap<string, Entry>): Entry | undefined {
    for (const entry of others.values()) {
      if (entry.revision > this.#revision) continue;
      const known = this.#entries.get(entry.key);
      if (known?.revision !== entry.revision || known.value !== entry.value) return entry;
    }
    return undefined;
  }

  /** Something of a network that is not there any more: its own entry is the last to go when it is removed. */
  #isLeftOver({ name, id, vni }: NetworkRecord, others: ReadonlyMap<string, Entry>): boolean {
    const number = others.get(this.#keys.vni(vni));
    if (number && readVni(number.key, number.value).id === id) return true;
    const blocks = this.#keys.blocksOf(name);
    return [...others.keys()].some((key) => key.startsWith(blocks));
  }

  /** Hosts that somebody has removed are not missed. */
  #judgeHosts(isThere: (id: string) => boolean, wasRemoved: (id: string) => boolean): Trust {
    const before = [...this.#hosts.keys()].filter((id) => isThere(id) || !wasRemoved(id));
    const there = before.filter(isThere).length;
    if (before.length > 1 && there < before.length * leastShareOfHosts)
      return distrust(`only ${there} of ${before.length} hosts are left in the engine`);
    return { trusted: true };
  }

  /** Takes a list for all there is. Ask `judge` first. */
  replace(list: ClusterList): void {
    for (const key of this.#entries.keys()) if (!list.others.has(key)) this.#delete(key);
    for (const entry of list.others.values()) {
      const known = this.#entries.get(entry.key);
      // Two histories of one store may have the same revision with different values.
      if (known?.revision !== entry.revision || known.value !== entry.value) this.#put(entry);
    }
    this.#revision = list.revision;
    this.#replaceNames(list.names);
  }

  #replaceNames(names: NameTable): void {
    const before = this.#names;
    this.#names = names;
    for (const key of before.keysUnlike(names)) if (!names.get(key)) this.#changed(key);
    for (const key of names.keysUnlike(before)) this.#changed(key);
  }

  #put(entry: Entry): void {
    const { key, value } = entry;
    if (this.#names.covers(key)) {
      if (this.#names.set(entry)) this.#changed(key);
      return;
    }
    this.#entries.set(key, entry);
    try {
      this.#read(entry);
      this.#problems.delete(key);
    } catch (error) {
      this.#problems.set(
        key,
        `${error instanceof Error ? error.message : String(error)} (${value.length} bytes)`,
      );
    }
    this.#changed(key);
  }

  #read(entry: Entry): void {
    const { key, value } = entry;
    if (key === this.#keys.cluster) this.#cluster = readCluster(key, value);
    const name = restOf(key, this.#keys.networks);
    if (name !== undefined) {
      const record = readNetwork(key, value);
      if (record.name !== name) throw new RecordError(`Cannot read ${key}: it is of network ${record.name}`);
      this.#networks.set(name, { entry, record });
    }
    const id = restOf(key, this.#keys.hosts);
    if (id !== undefined) this.#hosts.set(id, readHost(key, value));
    const block = restOf(key, this.#keys.blocks);
    if (block !== undefined) {
      const network = block.slice(0, block.indexOf("/"));
      const known = { entry, network, record: readBlock(key, value) };
      this.#forgetBlock(key);
      this.#blocks.set(key, known);
      const hosts = this.#blocksByHost.get(network) ?? new Map<string, readonly KnownBlock[]>();
      this.#blocksByHost.set(network, hosts);
      const { host } = known.record;
      hosts.set(host, [...(hosts.get(host) ?? []), known]);
    }
    const endpoint = restOf(key, this.#keys.endpoints);
    if (endpoint !== undefined) {
      const [network = "", host = ""] = endpoint.split("/");
      const segment = this.#segments.get(network) ?? new Segment();
      this.#segments.set(network, segment);
      segment.put({ entry, host, record: readEndpoint(key, value) });
    }
  }

  #forgetBlock(key: string): void {
    const known = this.#blocks.get(key);
    if (!known) return;
    this.#blocks.delete(key);
    const { network, record } = known;
    const hosts = this.#blocksByHost.get(network);
    const left = hosts?.get(record.host)?.filter((each) => each !== known) ?? [];
    if (left.length > 0) hosts?.set(record.host, left);
    else hosts?.delete(record.host);
    if (hosts?.size === 0) this.#blocksByHost.delete(network);
  }

  #delete(key: string): void {
    if (this.#names.delete(key)) {
      this.#changed(key);
      return;
    }
    this.#entries.delete(key);
    this.#problems.delete(key);
    this.#forgetBlock(key);
    const name = restOf(key, this.#keys.networks);
    if (name !== undefined) this.#networks.delete(name);
    const id = restOf(key, this.#keys.hosts);
    if (id !== undefined) this.#hosts.delete(id);
    const ended = restOf(key, this.#keys.endpoints)?.split("/")[0];
    if (ended !== undefined) this.#segments.get(ended)?.delete(key);
    this.#changed(key);
  }
}

function distrustLoss({ record: { name } }: KnownNetwork): Trust {
  return distrust(`network ${JSON.stringify(name)} is gone from the engine, and nobody has removed it`);
}

const noBlocks: ReadonlyMap<string, readonly KnownBlock[]> = new Map();
const noEndpoints: ReadonlyMap<string, KnownEndpoint> = new Map();

function restOf(key: string, prefix: string): string | undefined {
  return key.startsWith(prefix) ? key.slice(prefix.length) : undefined;
}
