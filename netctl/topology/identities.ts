import type { NamespaceIdentity } from "#cni/plugin.ts";
import type { JournalRecord } from "#journal/record.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import type { Container } from "#netctl/containers/container.ts";
import { listContainers } from "#netctl/containers/list.ts";
import { describeError } from "#netctl/failure.ts";
import type { KeptAttachments } from "#netctl/kept-attachments.ts";
import { describeNetwork, type Network } from "#netctl/network/listing.ts";
import { publishedPortsIn, summarizePorts } from "#netctl/port-text.ts";
import type { World } from "#netctl/world.ts";
import type { CachedAttachment } from "#runtime/cache.ts";
import { groupBy } from "./group-by.ts";
import type { FoundNamespace } from "./namespace-table.ts";

/** What runtimes, sandboxes and records say of one namespace. */
export interface Owner {
  readonly sandbox: string | undefined;
  readonly containers: readonly Container[];
  readonly containerIds: readonly string[];
  /** By the interface in it. */
  readonly networks: ReadonlyMap<string, string>;
  readonly ports: readonly string[];
}

export interface BridgeOwner {
  readonly network: string;
  readonly isInternal: boolean;
}

interface Attachment extends NamespaceIdentity {
  readonly containerId: string;
  readonly network: string;
  readonly ifName: string;
}

/** Who is in which namespace, by everything that knows of one. */
export class Identities {
  /** Files of namespaces that records and sandboxes name. */
  readonly paths: readonly string[];
  readonly #sandboxes: ReadonlyMap<string, string>;
  readonly #attachments: ReadonlyMap<string, readonly Attachment[]>;
  readonly #containers: ReadonlyMap<number, Container>;
  readonly #ports: (containerId: string) => readonly string[];
  readonly #bridges: ReadonlyMap<string, BridgeOwner>;

  private constructor(
    sandboxes: readonly { readonly name: string; readonly netns: string }[],
    attachments: readonly (Attachment & { readonly path: string })[],
    containers: readonly Container[],
    ports: (containerId: string) => readonly string[],
    networks: readonly Network[],
  ) {
    this.paths = [...sandboxes.map(({ netns }) => netns), ...attachments.map(({ path }) => path)];
    this.#sandboxes = new Map(
      sandboxes.flatMap(({ name, netns }) => {
        const identity = identifyNamespace(netns);
        return typeof identity === "string" ? [] : [[keyOf(identity), name]];
      }),
    );
    this.#attachments = groupBy(attachments, keyOf);
    this.#containers = new Map(containers.map((container) => [container.pid, container]));
    this.#ports = ports;
    this.#bridges = new Map(
      networks.flatMap(({ name, bridges, configured }) => {
        const isInternal = configured.list.plugins.some(({ json }) => json["internal"] === true);
        return bridges.map((bridge) => [bridge, { network: name, isInternal }] as const);
      }),
    );
  }

  /** @param problems gets what can't be read */
  static async read(world: World, kept: KeptAttachments, problems: string[]): Promise<Identities> {
    const attempt = async <Value>(what: string, read: () => readonly Value[] | Promise<readonly Value[]>) => {
      try {
        return await read();
      } catch (error) {
        problems.push(`Cannot read ${what}: ${describeError(error)}`);
        return [];
      }
    };
    const sandboxes = await attempt("sandboxes", () => world.sandboxes.list());
    const records = await attempt("the journal", () => kept.records());
    const cached = await attempt("cached results", () => kept.cached());
    const containers = await attempt("other runtimes' containers", () =>
      listContainers(world.kernel.namespace),
    );
    const networks = await attempt("networks", async () =>
      (await world.networks.load()).networks.map(describeNetwork),
    );
    const attachments = records.flatMap((record) => {
      if (record.phase === "torn" || record.netns === undefined) return [];
      // The number of a namespace that is gone belongs to another one now.
      const there = identifyNamespace(record.netns.path);
      const isSame =
        typeof there === "object" && there.ino === record.netns.ino && there.dev === record.netns.dev;
      return isSame ? [{ ...record.key, ...record.netns }] : [];
    });
    // A runtime's cache knows attachments of plugins that keep no journal.
    for (const { network, containerId, ifName, netns } of cached) {
      const there = netns === "" ? "missing" : identifyNamespace(netns);
      if (typeof there !== "string")
        attachments.push({ network, containerId, ifName, path: netns, ...there });
    }
    return new Identities(
      sandboxes.filter(({ netns }) => netns !== ""),
      attachments,
      containers,
      portsByContainer(records, cached),
      networks,
    );
  }

  /** Whether anybody says something of it. */
  knows(found: FoundNamespace): boolean {
    const key = keyOf(found.identity);
    return (
      this.#sandboxes.has(key) ||
      this.#attachments.has(key) ||
      found.pids.some((pid) => this.#containers.has(pid))
    );
  }

  /** The network that names a bridge of the host. */
  ofBridge(name: string): BridgeOwner | undefined {
    return this.#bridges.get(name);
  }

  of({ identity, pids }: FoundNamespace): Owner {
    const key = keyOf(identity);
    const attachments = this.#attachments.get(key) ?? [];
    const containerIds = [...new Set(attachments.map(({ containerId }) => containerId))];
    return {
      sandbox: this.#sandboxes.get(key),
      containers: pids.flatMap((pid) => this.#containers.get(pid) ?? []),
      containerIds,
      networks: new Map(attachments.map(({ ifName, network }) => [ifName, network])),
      ports: containerIds.flatMap((id) => this.#ports(id)),
    };
  }
}

function portsByContainer(
  records: readonly JournalRecord[],
  cached: readonly CachedAttachment[],
): (containerId: string) => readonly string[] {
  const published = groupBy(
    records.filter(({ plugin }) => plugin === "portmap"),
    ({ key }) => key.containerId,
  );
  const results = groupBy(cached, ({ containerId }) => containerId);
  return (containerId) => {
    const ports = publishedPortsIn(published.get(containerId) ?? [], results.get(containerId) ?? []);
    return ports.length === 0 ? [] : summarizePorts(ports).split(", ");
  };
}

const keyOf = ({ dev, ino }: NamespaceIdentity) => `${dev}:${ino}`;
