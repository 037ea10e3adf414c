import type { Engine, Entry, Step } from "#engine/engine.ts";
import type { Log } from "#machine/log.ts";
import { type Cidr, formatCidr } from "#net/cidr.ts";
import { type IpAddress, ipBits, parseIp } from "#net/ip.ts";
import { addressesIn, claimBlock, reclaimBlock, releaseBlock } from "./block.ts";
import type { Keys } from "./keys.ts";
import type { LocalNetworks } from "./local-network.ts";
import type { NetworkRecord } from "./record.ts";
import type { ClusterView, KnownBlock, KnownNetwork } from "./view.ts";

/** Below this share, or this number, of free addresses the next block is claimed, so that no ADD waits for one. */
const lowShare = 0.25;
const lowCount = 8;
/** A block without an address is given back after so many looks: no container comes and goes within them. */
const idleLooks = 60;

type Subnet = NetworkRecord["subnets"][number];

export interface AddressKeeperOptions {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly hostId: string;
  readonly view: ClusterView;
  readonly networks: LocalNetworks;
  /** What an operator has to know, by what it is about. */
  readonly problems: Map<string, string>;
  readonly log: Log;
  /** Called when this host has other blocks than before. */
  readonly changed: () => void;
}

/** Claims blocks of addresses for this host before they are needed, and gives back those that no longer are. */
export class AddressKeeper {
  readonly #options: AddressKeeperOptions;
  /** How often a block was seen empty. */
  readonly #idle = new Map<string, number>();

  constructor(options: AddressKeeperOptions) {
    this.#options = options;
  }

  /** Of this host, oldest first. */
  blocksOf(network: string): readonly KnownBlock[] {
    const { view, hostId } = this.#options;
    return [...(view.blocksByHost(network).get(hostId) ?? [])].sort(
      (a, b) => a.entry.revision - b.entry.revision,
    );
  }

  /**
   * One look at one network.
   * @param isWanted an ADD waits for an address
   * @returns false if addresses were to be claimed and could not be
   * @throws {EngineError}
   */
  async keep(network: KnownNetwork, fence: Step, isWanted: boolean): Promise<boolean> {
    const { name, subnets, state } = network.record;
    const blocks = this.blocksOf(name);
    const cidrs = blocks.map(({ record }) => record.cidr);
    const { counts, strays } = this.#options.networks.usage(name, cidrs);
    this.#forgetQuarantine(network, strays.map(parseIp));
    for (const stray of strays) await this.#recover(network, fence, parseIp(stray));
    const counted = blocks.map((block, index) => ({ block, used: counts[index] ?? 0 }));
    if (state === "deleting") {
      for (const { block, used } of counted) if (used === 0) await this.#release(block.entry, fence);
      return true;
    }
    let isWell = true;
    for (const subnet of subnets) {
      const { family } = subnet.cidr.address;
      const own = counted.filter(({ block }) => block.record.cidr.address.family === family);
      const free = freeIn(own, subnet);
      const isLow = free < lowCount || free < own.length * sizeOf(subnet) * lowShare;
      // A wish may be older than the last claim: it counts only where there is no room indeed.
      if (!isLow) await this.#releaseIdle(own, subnet, fence);
      else if (own.length > 0 || isWanted) isWell = (await this.#claim(network, subnet, fence)) && isWell;
    }
    return isWell;
  }

  /** What an operator was told of networks that are no more, and need not know any longer. */
  forgetOthers(networks: ReadonlyMap<string, unknown>): void {
    for (const topic of this.#options.problems.keys()) {
      const [kind, name = ""] = topic.split("/", 2);
      if ((kind === "claim" || kind === "quarantine") && !networks.has(name))
        this.#options.problems.delete(topic);
    }
  }

  /** Whose containers have gone. */
  #forgetQuarantine({ record: { name, subnets } }: KnownNetwork, strays: readonly IpAddress[]): void {
    const prefix = `quarantine/${name}/`;
    const present = strays.flatMap((ip) => {
      const subnet = subnets.find(({ cidr }) => cidr.address.family === ip.family);
      return subnet ? [prefix + formatCidr(blockAround(ip, subnet.blockLength))] : [];
    });
    for (const topic of this.#options.problems.keys())
      if (topic.startsWith(prefix) && !present.includes(topic)) this.#options.problems.delete(topic);
  }

  async #claim(network: KnownNetwork, subnet: Subnet, fence: Step): Promise<boolean> {
    const { engine, keys, hostId, view, problems, log, changed } = this.#options;
    const { name } = network.record;
    const topic = `claim/${name}`;
    try {
      const taken = new Set(view.blocks.keys());
      const { entry, record } = await claimBlock({ engine, keys, hostId, fence, network, taken }, subnet);
      this.#know(entry);
      problems.delete(topic);
      log.info("claimed addresses", { network: name, block: formatCidr(record.cidr) });
      changed();
      return true;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (problems.get(topic) !== message)
        log.warn("cannot claim addresses", { network: name, error: message });
      problems.set(topic, message);
      return false;
    }
  }

  /** An address is in use here that is of no block of this host's: the entry was lost, or is another's by now. */
  async #recover(network: KnownNetwork, fence: Step, ip: IpAddress): Promise<void> {
    const { engine, keys, hostId, problems, log, changed } = this.#options;
    const { name, subnets } = network.record;
    const subnet = subnets.find(({ cidr }) => cidr.address.family === ip.family);
    if (!subnet) return;
    const cidr = blockAround(ip, subnet.blockLength);
    const block = formatCidr(cidr);
    if (this.blocksOf(name).some(({ record }) => formatCidr(record.cidr) === block)) return;
    const topic = `quarantine/${name}/${block}`;
    const claimed = await reclaimBlock({ engine, keys, hostId, fence, network }, cidr);
    if (claimed) {
      this.#know(claimed.entry);
      problems.delete(topic);
      log.info("claimed addresses again", { network: name, block });
      changed();
    } else if (!problems.has(topic)) {
      problems.set(
        topic,
        `Containers of this host use addresses of ${block} in network ${JSON.stringify(name)}, which is another host's by now: remove them`,
      );
      log.error("addresses in use here are another host's", { network: name, block });
    }
  }

  /** The oldest block stays; another one goes when it was empty for long, and only if there is room enough without it. */
  async #releaseIdle(own: readonly Counted[], subnet: Subnet, fence: Step): Promise<void> {
    const size = sizeOf(subnet);
    const freeWithout = freeIn(own, subnet) - size;
    const isSpare = freeWithout > 2 * Math.max((own.length - 1) * size * lowShare, lowCount);
    for (const { block, used } of own.slice(1)) {
      const { key } = block.entry;
      const looks = used === 0 && isSpare ? (this.#idle.get(key) ?? 0) + 1 : 0;
      this.#idle.set(key, looks);
      if (looks < idleLooks) continue;
      await this.#release(block.entry, fence);
      return;
    }
  }

  async #release(entry: Entry, fence: Step): Promise<void> {
    const { engine, view, log, changed } = this.#options;
    if (!(await releaseBlock(engine, fence, entry))) return;
    view.apply({ revision: 0, changes: [{ kind: "delete", key: entry.key, revision: entry.revision }] });
    this.#idle.delete(entry.key);
    log.info("gave addresses back", { key: entry.key });
    changed();
  }

  /** What this host has just written; the watch will say so too. */
  #know(entry: Entry): void {
    this.#options.view.apply({ revision: 0, changes: [{ kind: "put", entry }] });
  }
}

interface Counted {
  readonly block: KnownBlock;
  readonly used: number;
}

function freeIn(own: readonly Counted[], subnet: Subnet): number {
  return own.reduce((sum, { used }) => sum + sizeOf(subnet) - used, 0);
}

function sizeOf({ cidr, blockLength }: Subnet): number {
  return addressesIn({ ...cidr, prefixLength: blockLength });
}

function blockAround(ip: IpAddress, prefixLength: number): Cidr {
  const hostBits = BigInt(ipBits(ip.family) - prefixLength);
  return { address: { family: ip.family, value: (ip.value >> hostBits) << hostBits }, prefixLength };
}
