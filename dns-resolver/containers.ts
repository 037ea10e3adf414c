import { type Cidr, containsIp, parseCidr } from "#net/cidr.ts";
import { type IpAddress, tryParseIp } from "#net/ip.ts";
import { AnswerTable } from "./answer-table.ts";
import type { Asker, AskerLoad } from "./asker.ts";
import type { Handler } from "./chain.ts";
import { Endpoint } from "./endpoint.ts";
import type { EventLoop } from "./event-loop.ts";
import type { ContainerReport } from "./messages.ts";
import { isThere, NamespaceGone } from "./namespace.ts";
import type { QueryLog } from "./query-log.ts";
import { keyText, type NamedAttachment, type NameEntry, type NameKey } from "./registry.ts";
import type { Snapshot } from "./snapshot.ts";
import { openGroup, type UpstreamGroup } from "./upstream/group.ts";
import type { ResponseCache } from "./upstream/response-cache.ts";
import { closeGroup, closeIdle, drainGroup } from "./upstream/socket.ts";

/** Each namespace is looked at this often; a few at a time, so that no query waits for it. */
const sweepMs = 1000;
const perStep = 32;
/** A port that is taken when netd comes back is tried again. */
const retryMs = 1000;

interface Container {
  readonly id: string;
  readonly netns: NameEntry["netns"];
  readonly port: number;
  /** In the order in which it joined. */
  readonly entries: Map<string, NameEntry>;
  readonly load: AskerLoad;
  state: ContainerReport["state"];
  problem?: string;
  endpoint?: Endpoint;
  asker: Asker;
}

export interface ContainersOptions {
  readonly loop: EventLoop;
  readonly snapshot: Snapshot;
  readonly responses: ResponseCache;
  readonly queryLog: QueryLog;
  readonly handler: () => Handler;
  readonly log: (
    level: "info" | "warn" | "error",
    message: string,
    fields: Readonly<Record<string, unknown>>,
  ) => void;
}

/** All containers that the resolver serves: their sockets, and what each of them may see. */
export class Containers {
  readonly #options: ContainersOptions;
  readonly #containers = new Map<string, Container>();
  readonly #byEntry = new Map<string, Container>();
  /** Of those that have the same networks and upstreams. */
  readonly #tables = new Map<string, { readonly table: AnswerTable; readonly networks: readonly string[] }>();
  readonly #groups = new Map<string, UpstreamGroup>();
  #hostGroup = openGroup(undefined, []);
  #cursor: Iterator<Container> | undefined;

  constructor(options: ContainersOptions) {
    this.#options = options;
    this.#scheduleSweep();
  }

  get hostServers(): readonly string[] {
    return this.#hostGroup.servers.map(({ text }) => text);
  }

  /**
   * Takes an attachment in: its names are answered and its container is served when this returns.
   * @throws {NamespaceGone}; Node's error: EADDRINUSE. Its names are known even so, unless it says that it is new
   */
  add(entry: NameEntry): void {
    this.remove(entry);
    const { snapshot } = this.#options;
    const container = this.#containerOf(entry);
    container.entries.set(keyText(entry), entry);
    this.#byEntry.set(keyText(entry), container);
    snapshot.add(entry);
    this.#networkChanged(entry.network);
    this.#update(container);
    if (!container.endpoint) this.#open(container);
  }

  /** Does nothing where it is not known. */
  remove(key: NameKey): void {
    const container = this.#byEntry.get(keyText(key));
    if (!container) return;
    container.entries.delete(keyText(key));
    this.#byEntry.delete(keyText(key));
    this.#options.snapshot.remove(key);
    this.#networkChanged(key.network);
    if (container.entries.size > 0) {
      this.#update(container);
      return;
    }
    container.endpoint?.close();
    this.#containers.delete(container.id);
    this.#collect();
  }

  /** Names without a container here: nothing listens for them, and only a later call takes them away. */
  changeForeign(put: readonly NamedAttachment[], gone: readonly NameKey[]): void {
    const { snapshot } = this.#options;
    for (const key of gone) snapshot.remove(key);
    for (const entry of put) snapshot.add(entry);
    for (const network of new Set([...gone, ...put].map((each) => each.network)))
      this.#networkChanged(network);
  }

  /** How many queries have come, of all containers that there are: it may become less. */
  get asked(): number {
    let count = 0;
    for (const container of this.#containers.values()) count += queriesOf(container);
    return count;
  }

  find(key: NameKey): Asker | undefined {
    return this.#byEntry.get(keyText(key))?.asker;
  }

  setHostServers(addresses: readonly IpAddress[]): void {
    const group = openGroup(undefined, addresses);
    if (group.key === this.#hostGroup.key) return;
    const before = this.#hostGroup;
    this.#hostGroup = group;
    for (const container of this.#containers.values()) this.#update(container);
    this.#options.responses.dropGroup(before.key);
    drainGroup(before);
  }

  /** Looks at every namespace now. */
  sweep(): void {
    for (const container of this.#containers.values()) this.#look(container);
  }

  report(): readonly ContainerReport[] {
    return [...this.#containers.values()].map((container) => {
      const { netns, state, problem, port, asker, load } = container;
      const { failures, refused } = load;
      return {
        containerId: asker.containerId,
        netns: netns.path,
        state,
        ...(problem === undefined ? {} : { problem }),
        port,
        networks: [...container.entries.values()].map(
          ({ network, ifName, names, addresses, isInternal }) => ({
            network,
            ifName,
            names,
            addresses,
            isInternal,
          }),
        ),
        servers: asker.upstreams?.servers.map(({ text }) => text) ?? [],
        from: !asker.upstreams ? "nowhere" : asker.upstreams.netns ? "container" : "host",
        queries: queriesOf(container),
        failures,
        refused,
      };
    });
  }

  close(): void {
    for (const { endpoint } of this.#containers.values()) endpoint?.close();
    this.#containers.clear();
  }

  #containerOf(entry: NameEntry): Container {
    const id = `${entry.netns.dev}:${entry.netns.ino}`;
    const known = this.#containers.get(id);
    if (known && known.state !== "lost") return known;
    // A number that comes again is another namespace: what there was of the old one is in nobody's way.
    if (known) this.#forget(known);
    const load: AskerLoad = { forwarded: 0, connections: 0, queries: 0, failures: 0, refused: 0 };
    const { netns, port } = entry;
    const base = { id, netns, port, entries: new Map<string, NameEntry>(), load, state: "failed" as const };
    const container: Container = { ...base, asker: this.#describe(base) };
    this.#containers.set(id, container);
    return container;
  }

  #forget(container: Container): void {
    container.endpoint?.close();
    for (const key of container.entries.keys()) this.#byEntry.delete(key);
    this.#containers.delete(container.id);
  }

  #open(container: Container): void {
    const { loop, queryLog, handler } = this.#options;
    const { netns, port } = container;
    const options = {
      loop,
      log: queryLog,
      handler: handler(),
      asker: () => container.asker,
    };
    try {
      container.endpoint = new Endpoint(options, netns, port);
      container.endpoint.answerBy(container.asker.answers);
      container.state = "listening";
      delete container.problem;
    } catch (error) {
      container.problem = error instanceof Error ? error.message : String(error);
      if (error instanceof NamespaceGone) this.#lose(container);
      else this.#retry(container);
      throw error;
    }
  }

  #retry(container: Container): void {
    container.state = "failed";
    this.#options.loop.after(retryMs, () => {
      if (this.#containers.get(container.id) !== container || container.endpoint) return;
      try {
        this.#open(container);
        this.#options.log("info", "listening again", { containerId: container.asker.containerId });
      } catch {
        // It has been scheduled again, or is lost.
      }
    });
  }

  /** Its namespace is gone, without a DEL: nobody is there whom its names could lead to. */
  #lose(container: Container): void {
    if (container.state === "lost") return;
    container.state = "lost";
    container.endpoint?.close();
    delete container.endpoint;
    const { upstreams } = container.asker;
    // Sockets to servers of its own would keep the namespace.
    if (upstreams?.netns) this.#dropGroup(upstreams.key, upstreams);
    for (const entry of container.entries.values()) {
      this.#options.snapshot.remove(entry);
      this.#networkChanged(entry.network);
    }
    const { containerId } = container.asker;
    this.#options.log("info", "namespace gone", { containerId, netns: container.netns.path });
  }

  #look(container: Container): void {
    if (container.state !== "lost" && !isThere(container.netns)) this.#lose(container);
  }

  #scheduleSweep(): void {
    const steps = Math.max(Math.ceil(this.#containers.size / perStep), 1);
    this.#options.loop.after(sweepMs / steps, () => {
      for (let count = 0; count < perStep; count++) {
        this.#cursor ??= this.#containers.values();
        const { value, done } = this.#cursor.next();
        if (done) {
          this.#cursor = undefined;
          closeIdle(this.#hostGroup);
          for (const group of this.#groups.values()) closeIdle(group);
          break;
        }
        this.#look(value);
      }
      this.#scheduleSweep();
    });
  }

  #update(container: Container): void {
    container.asker = this.#describe(container);
    container.endpoint?.answerBy(container.asker.answers);
    this.#collect();
  }

  #describe(container: Omit<Container, "asker">): Asker {
    const entries = [...container.entries.values()];
    const networks = [...new Set(entries.map(({ network }) => network))];
    const isInternal = entries.length > 0 && entries.every((entry) => entry.isInternal);
    const upstreams = this.#upstreamsOf(entries, isInternal);
    const tableKey = JSON.stringify([networks, upstreams?.key ?? "", isInternal]);
    let shared = this.#tables.get(tableKey);
    if (!shared) {
      shared = { table: new AnswerTable(this.#options.loop), networks };
      this.#tables.set(tableKey, shared);
    }
    return {
      id: container.id,
      containerId: entries[0]?.containerId ?? "",
      netns: container.netns,
      networks,
      isInternal,
      upstreams,
      answers: shared.table,
      load: container.load,
    };
  }

  /**
   * Servers of its own come first in the order of its networks, asked from where it is. A container all of whose
   * networks are internal may ask what is in them, as it could by itself, and nobody else.
   */
  #upstreamsOf(entries: readonly NameEntry[], isInternal: boolean): UpstreamGroup | undefined {
    const own = entries.flatMap(({ servers }) => servers.flatMap((text) => tryParseIp(text) ?? []));
    const subnets = entries.flatMap(({ addresses }) => addresses.map(parseCidr));
    const allowed = isInternal ? own.filter((ip) => isWithin(subnets, ip)) : own;
    const [first] = entries;
    if (own.length === 0 || !first) return isInternal ? undefined : this.#hostGroup;
    if (allowed.length === 0) return undefined;
    const group = openGroup(first.netns, allowed);
    const known = this.#groups.get(group.key);
    if (known) return known;
    this.#groups.set(group.key, group);
    return group;
  }

  #networkChanged(network: string): void {
    for (const { table, networks } of this.#tables.values()) if (networks.includes(network)) table.clear();
  }

  #dropGroup(key: string, group: UpstreamGroup): void {
    this.#groups.delete(key);
    closeGroup(group);
    this.#options.responses.dropGroup(group.key);
  }

  /** Lets go of tables and groups that no container has any more. */
  #collect(): void {
    const tables = new Set<AnswerTable>();
    const groups = new Set<UpstreamGroup>();
    if (this.#tables.size <= 2 * this.#containers.size + 16 && this.#groups.size === 0) return;
    for (const { asker } of this.#containers.values()) {
      tables.add(asker.answers);
      if (asker.upstreams) groups.add(asker.upstreams);
    }
    for (const [key, { table }] of this.#tables) if (!tables.has(table)) this.#tables.delete(key);
    for (const [key, group] of this.#groups) {
      if (groups.has(group)) continue;
      this.#dropGroup(key, group);
    }
  }
}

function queriesOf({ load, endpoint }: Container): number {
  return load.queries + (endpoint?.answered ?? 0);
}

function isWithin(subnets: readonly Cidr[], ip: IpAddress): boolean {
  return subnets.some((subnet) => containsIp(subnet, ip));
}
