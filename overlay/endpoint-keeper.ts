import type { Engine, Step } from "#engine/engine.ts";
import { containsIp } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import type { Keys } from "./keys.ts";
import { writeOwnEntries } from "./own-entries.ts";
import { formatRecord } from "./record.ts";
import type { ClusterView } from "./view.ts";

/** A container of this host in a stretched network. */
export interface LocalEndpoint {
  /** The same for the same attachment, and different from all others of this host. No "/" in it. */
  readonly id: string;
  readonly mac: MacAddress;
  readonly ips: readonly IpAddress[];
}

export interface EndpointKeeperOptions {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly hostId: string;
  readonly view: ClusterView;
  /** Those that are attached now. */
  readonly local: (network: string) => readonly LocalEndpoint[];
  /** Of the session; undefined while there is none, or the engine is away or not believed. */
  readonly fence: () => Step | undefined;
}

/** Containers can go without a word: killed hosts and runtimes. */
const allIntervalMs = 4000;

/** Tells the other hosts, by the engine, where this host's containers of stretched networks are. */
export class EndpointKeeper {
  readonly #options: EndpointKeeperOptions;
  #nextAllMs = 0;

  constructor(options: EndpointKeeperOptions) {
    this.#options = options;
  }

  /**
   * One look at the stretched networks of which something was told; every now and then at all.
   * @throws {EngineError}
   */
  async publish(told: readonly string[]): Promise<void> {
    const { engine, keys, hostId, view, local, fence } = this.#options;
    const isAll = performance.now() > this.#nextAllMs;
    if (isAll) this.#nextAllMs = performance.now() + allIntervalMs;
    for (const network of view.networks.values()) {
      const { name, mode } = network.record;
      if (mode !== "l2" || !(isAll || told.includes(name))) continue;
      const prefix = keys.endpointsOn(name, hostId);
      const wanted = new Map(
        this.#reachable(name, local(name)).map(({ id, mac, ips }) => [
          prefix + id,
          formatRecord({ v: 1, mac, ips }),
        ]),
      );
      const known = [...view.endpointsOf(name)].filter(([key]) => key.startsWith(prefix));
      const stored = new Map(known.map(([key, { entry }]) => [key, entry]));
      if (!(await writeOwnEntries({ engine, view, fence }, network, stored, wanted))) return;
    }
  }

  /**
   * With those of their addresses that are of this host's blocks. A host that was given up, and comes back with its
   * containers, must not take their addresses from who has them now.
   */
  #reachable(network: string, local: readonly LocalEndpoint[]): readonly LocalEndpoint[] {
    const { view, hostId } = this.#options;
    const blocks = view.blocksByHost(network).get(hostId) ?? [];
    const isOwn = (ip: IpAddress) =>
      blocks.some(({ record: { cidr } }) => cidr.address.family === ip.family && containsIp(cidr, ip));
    return local.flatMap((endpoint) => {
      const ips = endpoint.ips.filter(isOwn);
      return ips.length > 0 ? [{ ...endpoint, ips }] : [];
    });
  }
}
