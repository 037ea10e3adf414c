import { randomBytes, randomUUID } from "node:crypto";
import type { Engine, Entry, Step } from "#engine/engine.ts";
import {
  type Cidr,
  containsIp,
  firstIp,
  formatCidr,
  hostCidr,
  lastIp,
  networkOf,
  overlaps,
} from "#net/cidr.ts";
import { addToIp, compareIp, formatIp, type IpAddress } from "#net/ip.ts";
import { overheadBetween } from "./desired.ts";
import { OverlayError } from "./error.ts";
import { Keys } from "./keys.ts";
import {
  type ClusterRecord,
  formatRecord,
  type HostRecord,
  type NetworkRecord,
  type Pool,
  type PoolsRecord,
  readCluster,
  readHost,
  readLeft,
  readNetwork,
  readPools,
  readVni,
} from "./record.ts";

export interface ClusterSpec {
  readonly udpPort: number;
  readonly vniMin: number;
  readonly vniMax: number;
  readonly pools: readonly Pool[];
}

export interface NetworkSpec {
  readonly name: string;
  /** Without one, the next free one of the cluster's first pool of that family. */
  readonly subnets: readonly { readonly cidr: Cidr; readonly blockLength?: number }[];
  readonly families: readonly (4 | 6)[];
  /** What a subnet that nobody named must keep off, beside the hosts' own addresses. */
  readonly avoid?: readonly Cidr[];
  readonly vni?: number;
  readonly mtu?: number;
  readonly internal: boolean;
  readonly mode: NetworkRecord["mode"];
  readonly names: NetworkRecord["names"];
  /** Between the hosts. */
  readonly encrypted: boolean;
}

/** Others that write at the same moment: each try means that one of them got on. */
const maxTries = 64;

/** etcd takes 128. */
const stepsAtOnce = 100;

/** How long a host may be away from the engine, and still learn that others were removed by somebody. */
const leftKeptMs = 30 * 24 * 3_600_000;

/** What an operator does to a cluster as a whole. Safe from any host, and from several at once. */
export class Cluster {
  readonly keys: Keys;
  readonly #engine: Engine;

  constructor(engine: Engine, name: string) {
    this.#engine = engine;
    this.keys = new Keys(name);
  }

  /**
   * Founds the cluster, or joins the one that is there.
   * @throws {OverlayError} "conflict" if another one is there than `expected`
   * @throws {EngineError}
   */
  async open(wanted: ClusterSpec, expected?: string): Promise<ClusterRecord> {
    const key = this.keys.cluster;
    const record: ClusterRecord = { ...wanted, pools: [...wanted.pools], v: 1, uuid: randomUUID() };
    const present = await this.#engine.read(key);
    if (!present && expected === undefined) {
      const outcome = await this.#engine.commit([{ kind: "create", key, value: formatRecord(record) }]);
      if (outcome.committed) return record;
    }
    const entry = present ?? (await this.#engine.read(key));
    const found = entry && readCluster(key, entry.value);
    if (!found)
      throw new OverlayError(
        "conflict",
        `The engine has no cluster below ${this.keys.prefix}: it was emptied, or is another one`,
      );
    if (expected !== undefined && found.uuid !== expected)
      throw new OverlayError(
        "conflict",
        `The engine has another cluster below ${this.keys.prefix}: ${found.uuid}, and this host is of ${expected}`,
      );
    return found;
  }

  async networks(): Promise<readonly NetworkRecord[]> {
    const { entries } = await this.#engine.list(this.keys.networks);
    return entries.map((entry) => readNetwork(entry.key, entry.value));
  }

  /**
   * @throws {OverlayError} "taken" name, subnet or number; "exhausted"; "unfit" MTU or subnet
   * @throws {EngineError}
   */
  async createNetwork(spec: NetworkSpec): Promise<NetworkRecord> {
    const cluster = await this.#cluster();
    const hosts = await this.#hosts();
    refuseWide(spec, hosts);
    for (const { cidr } of spec.subnets) refuseHosts(cidr, hosts);
    const avoid = [...(spec.avoid ?? []), ...hosts.flatMap(addressesOf).map(hostCidr)];
    for (let attempt = 0; attempt < maxTries; attempt++) {
      const poolsEntry = await this.#engine.read(this.keys.pools);
      const pools: PoolsRecord = poolsEntry
        ? readPools(this.keys.pools, poolsEntry.value)
        : { v: 1, allocated: [] };
      const subnets = chooseSubnets({ ...spec, avoid }, cluster.pools, pools);
      const vni = spec.vni ?? candidateVni(spec.name, attempt, cluster);
      const record: NetworkRecord = {
        v: 1,
        name: spec.name,
        id: randomBytes(6).toString("hex"),
        mode: spec.mode,
        vni,
        subnets,
        ...(spec.mtu === undefined ? {} : { mtu: spec.mtu }),
        internal: spec.internal,
        names: spec.names,
        encrypted: spec.encrypted,
        state: "active",
      };
      const allocated = [...pools.allocated, ...subnets.map(({ cidr }) => ({ cidr, network: spec.name }))];
      const outcome = await this.#engine.commit([
        {
          kind: "create",
          key: this.keys.vni(vni),
          value: formatRecord({ v: 1, network: spec.name, id: record.id }),
        },
        writePools(this.keys.pools, poolsEntry, { ...pools, allocated }),
        { kind: "create", key: this.keys.network(spec.name), value: formatRecord(record) },
      ]);
      if (outcome.committed) return record;
      if (outcome.found.has(this.keys.network(spec.name)))
        throw new OverlayError("taken", `Network ${JSON.stringify(spec.name)} already exists`);
      const rival = spec.vni === undefined ? undefined : outcome.found.get(this.keys.vni(spec.vni));
      if (rival)
        throw new OverlayError(
          "taken",
          `VNI ${spec.vni} is that of network ${JSON.stringify(readVni(rival.key, rival.value).network)}`,
        );
    }
    throw new OverlayError(
      "conflict",
      `Cannot create network ${JSON.stringify(spec.name)}: too many others are being created`,
    );
  }

  /**
   * For a host that is about to join: its own address in a network's subnet would lead nowhere.
   * @throws {OverlayError} "unfit"
   * @throws {EngineError}
   */
  async refuseUnderlay(addresses: readonly IpAddress[]): Promise<void> {
    for (const { name, subnets } of await this.networks())
      for (const ip of addresses) {
        const hiding = subnets.find(({ cidr }) => has(cidr, ip));
        if (hiding)
          throw new OverlayError(
            "unfit",
            `Underlay address ${formatIp(ip)} of this host is in ${formatCidr(hiding.cidr)} of network ${JSON.stringify(name)}: give --underlay another one, or remove that network`,
          );
      }
  }

  /**
   * Marks the network, so that no host claims addresses in it any more, and removes it once none has any.
   * @returns hosts that still have addresses of it; it is gone if there are none
   * @throws {OverlayError} "missing"
   * @throws {EngineError}
   */
  async removeNetwork(name: string): Promise<readonly string[]> {
    const key = this.keys.network(name);
    for (let attempt = 0; attempt < maxTries; attempt++) {
      const entry = await this.#engine.read(key);
      if (!entry) throw new OverlayError("missing", `No such network: ${JSON.stringify(name)}`);
      const record = readNetwork(key, entry.value);
      if (record.state === "active") {
        const value = formatRecord({ ...record, state: "deleting" });
        await this.#engine.commit([{ kind: "replace", key, revision: entry.revision, value }]);
        continue;
      }
      const { entries: blocks } = await this.#engine.list(this.keys.blocksOf(name));
      if (blocks.length > 0) return [...new Set(blocks.map(hostOf))].sort();
      if (await this.#dropNetwork(entry, record)) return [];
    }
    throw new OverlayError(
      "conflict",
      `Cannot remove network ${JSON.stringify(name)}: others keep changing it`,
    );
  }

  /**
   * Takes a host out, with its addresses. What others forward to it goes with that.
   * @throws {OverlayError} "missing"; "conflict" while it is live, or if it comes back in between
   * @throws {EngineError}
   */
  async removeHost(id: string): Promise<void> {
    const entry = await this.#engine.read(this.keys.host(id));
    if (!entry) throw new OverlayError("missing", `No such host: ${JSON.stringify(id)}`);
    const record = readHost(entry.key, entry.value);
    const absent: Step = { kind: "absent", key: this.keys.live(id) };
    const isStill = () => new OverlayError("conflict", `Cannot remove host ${id}: it is live`);
    const { entries } = await this.#engine.list(this.keys.blocks);
    const blocks = entries.filter((block) => hostOf(block) === id);
    // In parts, each only while it is away: a host that comes back keeps what is left.
    for (let at = 0; at < blocks.length; at += stepsAtOnce) {
      const steps = blocks
        .slice(at, at + stepsAtOnce)
        .map(({ key, revision }) => ({ kind: "remove", key, revision }) as const);
      if (!(await this.#engine.commit([absent, ...steps])).committed) throw isStill();
    }
    const { entries: names } = await this.#engine.list(this.keys.names);
    const { entries: endpoints } = await this.#engine.list(this.keys.endpoints);
    await this.#clear(
      [...names, ...endpoints].map(({ key }) => key).filter((key) => key.split("/").at(-2) === id),
      [absent],
      isStill,
    );
    const addresses = [record.underlay.v4, record.underlay.v6].filter((ip) => ip !== undefined);
    const nowMs = Date.now();
    const outcome = await this.#engine.commit([
      absent,
      // First, so that nobody sees a host that is merely missing.
      { kind: "put", key: this.keys.left(id), value: formatRecord({ v: 1, atMs: nowMs }) },
      { kind: "remove", key: entry.key, revision: entry.revision },
      ...addresses.map((ip) => ({ kind: "clear", key: this.keys.vtep(ip) }) as const),
      ...(await this.#oldLefts(nowMs)),
    ]);
    if (!outcome.committed) throw isStill();
  }

  /** Of hosts that were removed long ago: everybody has heard of them. */
  async #oldLefts(nowMs: number): Promise<readonly Step[]> {
    const { entries } = await this.#engine.list(this.keys.lefts);
    return entries
      .filter(({ key, value }) => nowMs - readLeft(key, value).atMs > leftKeptMs)
      .slice(0, stepsAtOnce / 2)
      .map(({ key }) => ({ kind: "clear", key }));
  }

  /** In parts, each only while `guards` hold. */
  async #clear(keys: readonly string[], guards: readonly Step[], refusal: () => Error): Promise<void> {
    for (let at = 0; at < keys.length; at += stepsAtOnce) {
      const steps = keys.slice(at, at + stepsAtOnce).map((key) => ({ kind: "clear", key }) as const);
      if (!(await this.#engine.commit([...guards, ...steps])).committed) throw refusal();
    }
  }

  async #dropNetwork(entry: Entry, record: NetworkRecord): Promise<boolean> {
    const { entries: names } = await this.#engine.list(this.keys.namesOf(record.name));
    const { entries: endpoints } = await this.#engine.list(this.keys.endpointsOf(record.name));
    const unchanged: Step = { kind: "unchanged", key: entry.key, revision: entry.revision };
    const isOther = () =>
      new OverlayError("missing", `No such network: ${JSON.stringify(record.name)}; it has gone meanwhile`);
    await this.#clear(
      [...names, ...endpoints].map(({ key }) => key),
      [unchanged],
      isOther,
    );
    const poolsEntry = await this.#engine.read(this.keys.pools);
    const pools: PoolsRecord = poolsEntry
      ? readPools(this.keys.pools, poolsEntry.value)
      : { v: 1, allocated: [] };
    const allocated = pools.allocated.filter(({ network }) => network !== record.name);
    const outcome = await this.#engine.commit([
      { kind: "empty", prefix: this.keys.blocksOf(record.name) },
      // The network's own entry last: what is left when this is cut off is a network that is being removed.
      writePools(this.keys.pools, poolsEntry, { ...pools, allocated }),
      { kind: "clear", key: this.keys.vni(record.vni) },
      { kind: "remove", key: entry.key, revision: entry.revision },
    ]);
    return outcome.committed;
  }

  async #hosts(): Promise<readonly HostRecord[]> {
    const { entries } = await this.#engine.list(this.keys.hosts);
    return entries.map(({ key, value }) => readHost(key, value));
  }

  async #cluster(): Promise<ClusterRecord> {
    const entry = await this.#engine.read(this.keys.cluster);
    if (!entry) throw new OverlayError("missing", `The engine has no cluster below ${this.keys.prefix}`);
    return readCluster(entry.key, entry.value);
  }
}

const addressesOf = ({ underlay }: HostRecord): readonly IpAddress[] =>
  [underlay.v4, underlay.v6].filter((ip) => ip !== undefined);

const has = (cidr: Cidr, ip: IpAddress) => cidr.address.family === ip.family && containsIp(cidr, ip);

/** Packets to a host would go to its containers instead: the engine itself might be out of reach. */
function refuseHosts(subnet: Cidr, hosts: readonly HostRecord[]): void {
  for (const host of hosts) {
    const ip = addressesOf(host).find((each) => has(subnet, each));
    if (ip)
      throw new OverlayError(
        "unfit",
        `Subnet ${formatCidr(subnet)} has ${formatIp(ip)} in it, by which host ${host.name} is reached`,
      );
  }
}

function refuseWide({ mtu, encrypted }: NetworkSpec, hosts: readonly HostRecord[]): void {
  const [narrowest] = hosts.filter((host) => host.mtu > 0).sort((a, b) => a.mtu - b.mtu);
  if (mtu === undefined || !narrowest) return;
  const family = hosts.every(({ underlay }) => underlay.v4) ? 4 : 6;
  const most = narrowest.mtu - overheadBetween(hosts, encrypted, family);
  if (mtu > most)
    throw new OverlayError(
      "unfit",
      `MTU ${mtu} is too large: the underlay of host ${narrowest.name} takes ${narrowest.mtu} bytes, which leaves ${most} to containers`,
    );
}

function writePools(key: string, present: Entry | undefined, pools: PoolsRecord): Step {
  const value = formatRecord(pools);
  return present
    ? { kind: "replace", key, revision: present.revision, value }
    : { kind: "create", key, value };
}

function hostOf(entry: Entry): string {
  const { host } = JSON.parse(entry.value) as { host?: unknown };
  return String(host);
}

/** Starts at a place that the name tells, so that several who create networks at once rarely meet. */
function candidateVni(name: string, attempt: number, { vniMin, vniMax }: ClusterRecord): number {
  const size = vniMax - vniMin + 1;
  let hash = 0;
  for (const byte of Buffer.from(name)) hash = (hash * 31 + byte) % size;
  return vniMin + ((hash + attempt * 7919) % size);
}

/** Of a host's part of a subnet: 64 addresses, 65,536 in IPv6. */
const defaultBlockLength = { 4: 26, 6: 112 } as const;

function chooseSubnets(
  spec: NetworkSpec,
  pools: readonly Pool[],
  { allocated }: PoolsRecord,
): NetworkRecord["subnets"] {
  const given = spec.subnets.map(({ cidr, blockLength }) => {
    const taken = allocated.find((other) => overlaps(other.cidr, cidr));
    if (taken)
      throw new OverlayError(
        "taken",
        `Subnet ${formatCidr(cidr)} overlaps ${formatCidr(taken.cidr)} of network ${JSON.stringify(taken.network)}`,
      );
    const length = blockLength ?? Math.max(defaultBlockLength[cidr.address.family], cidr.prefixLength);
    return { cidr: networkOf(cidr), blockLength: length };
  });
  const families = spec.families.filter(
    (family) => !given.some(({ cidr }) => cidr.address.family === family),
  );
  const used = [...allocated.map(({ cidr }) => cidr), ...(spec.avoid ?? [])];
  return [...given, ...families.map((family) => nextSubnet(family, pools, used))];
}

function nextSubnet(
  family: 4 | 6,
  pools: readonly Pool[],
  used: readonly Cidr[],
): NetworkRecord["subnets"][number] {
  for (const { base, size, blockLength } of pools) {
    if (base.address.family !== family) continue;
    let candidate: Cidr = { address: firstIp(base), prefixLength: size };
    while (compareIp(lastIp(candidate), lastIp(base)) <= 0) {
      const taken = used.find((other) => overlaps(other, candidate));
      if (!taken) return { cidr: candidate, blockLength };
      // Behind whichever of the two is larger: a pool with a thousand networks takes a thousand steps, not a million.
      const end = taken.prefixLength < size ? lastIp(taken) : lastIp(candidate);
      candidate = { address: addToIp(end, 1), prefixLength: size };
    }
  }
  throw new OverlayError(
    "exhausted",
    `No pool of the cluster has an IPv${family} subnet left; name one, or add a pool`,
  );
}
