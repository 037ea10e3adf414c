import { type FSWatcher, readFileSync, unwatchFile, watch, watchFile } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { crashPoint } from "#machine/crash-point.ts";
import type { Log } from "#machine/log.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { parts } from "#machine/parts.ts";
import { formatIp, tryParseIp } from "#net/ip.ts";
import type { LogReport, QueryReport, ResolverReport, SyncReport } from "./messages.ts";
import {
  keyText,
  type NamedAttachment,
  type NameEntry,
  type NameKey,
  type NameRegistry,
  type NameService,
  NameServiceError,
  type NamespaceId,
} from "./registry.ts";
import { ResolverThread } from "./thread.ts";
import { parseNameServers } from "./upstream/group.ts";

/** How soon a change of the host's servers is noticed. */
const resolvConfIntervalMs = 1000;
/** A thread that ends again and again is started so often. */
const restartMs = 500;
/** Names of other hosts in one message. */
const toldAtOnce = 500;

export interface ResolverServiceOptions {
  readonly registry: NameRegistry;
  /** Where the host's servers are: /etc/resolv.conf. */
  readonly resolvConf: string;
  readonly log: Log;
}

/**
 * The resolver, in the process that serves it: keeps its thread running, and it in step with the registry, whoever
 * writes that. The thread is started with the first name.
 */
export class ResolverService implements NameService {
  readonly #options: ResolverServiceOptions;
  readonly #known = new Map<string, { readonly entry: NameEntry; readonly text: string }>();
  readonly #byNamespace = new Map<string, Map<string, NameEntry>>();
  /** Why an attachment is not served, by `keyText`. */
  readonly #problems = new Map<string, string>();
  /** All names on other hosts: the thread is told them whenever it starts. */
  #foreign: () => Iterable<NamedAttachment> = () => [];
  readonly #listeners = new Set<(network: string) => void>();
  /** Files that this process has written or removed, whose notices are no news. */
  readonly #own = new Map<string, number>();
  #thread: ResolverThread | undefined;
  #watcher: FSWatcher | undefined;
  #hostServers: readonly string[] = [];
  #isClosed = false;
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(options: ResolverServiceOptions) {
    this.#options = options;
  }

  /** Serves all that is registered, from now on. Returns when each container that is there is answered. */
  async start(): Promise<void> {
    const { registry, resolvConf } = this.#options;
    makeDirectory(registry.directory, 0o700);
    this.#watcher = watch(registry.directory, { persistent: false }, (_event, name) => {
      if (name === null) void this.sync();
      else if (name.endsWith(".json")) this.#noticed(name);
    });
    this.#watcher.on("error", (error) =>
      this.#options.log.error("resolver: cannot watch the registry", { error: error.message }),
    );
    this.#readHostServers();
    watchFile(resolvConf, { interval: resolvConfIntervalMs, persistent: false }, () => {
      this.#readHostServers();
      void this.#thread?.give({ op: "hostServers", addresses: this.#hostServers }).catch(() => undefined);
    });
    await this.sync();
  }

  /** How many attachments have names. */
  get size(): number {
    return this.#known.size;
  }

  async publish(entry: NameEntry): Promise<void> {
    const { registry } = this.#options;
    this.#mine(entry);
    registry.write(entry);
    try {
      crashPoint("names-written");
      await this.#add(entry);
    } catch (error) {
      await this.withdraw(entry);
      throw error;
    }
  }

  async withdraw(key: NameKey): Promise<void> {
    if (this.#options.registry.remove(key)) this.#mine(key);
    crashPoint("names-removed");
    await this.#remove(key);
  }

  inNamespace(namespace: NamespaceId): readonly NameEntry[] {
    return [...(this.#byNamespace.get(namespaceText(namespace))?.values() ?? [])];
  }

  inNetwork(network: string): readonly NameEntry[] {
    return [...this.#known.values()].flatMap(({ entry }) => (entry.network === network ? [entry] : []));
  }

  /** @param listener called after names of containers of this host, in that network, have come, changed or gone */
  onChange(listener: (network: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @param all what there is of them: asked for when the thread starts anew, and gone through piece by piece */
  setForeign(all: () => Iterable<NamedAttachment>): void {
    this.#foreign = all;
  }

  /**
   * Takes in names of containers that are on other hosts, and lets go of others. Their keys are never those of a
   * container of this one. What is given in order is taken in order.
   * @returns when they are answered by; at once where there is no thread, which is told all when it starts
   */
  async changeForeign(put: Iterable<NamedAttachment>, gone: readonly NameKey[]): Promise<void> {
    await this.#thread?.give({ op: "foreign", put: [...put], gone }).catch(() => undefined);
  }

  /** One entry of each namespace that has any. */
  *perNamespace(): Generator<NameEntry, undefined> {
    for (const entries of this.#byNamespace.values()) {
      const [first] = entries.values();
      if (first) yield first;
    }
    return undefined;
  }

  async probe(): Promise<void> {
    await this.#running().give({ op: "list" });
  }

  /** Reads the whole registry, and returns when the resolver answers by it, with what it can't serve. */
  async sync(): Promise<SyncReport> {
    const present = new Map(this.#options.registry.list().map((entry) => [keyText(entry), entry]));
    const gone = [...this.#known.values()].filter(({ entry }) => !present.has(keyText(entry)));
    await Promise.all([
      ...gone.map(({ entry }) => this.#remove(entry).catch(() => undefined)),
      ...[...present.values()].map((entry) =>
        this.#add(entry).catch((error: unknown) => this.#complain(entry, error)),
      ),
    ]);
    await this.#lastChange;
    return { problems: Object.fromEntries(this.#problems) };
  }

  /** What it serves. */
  async report(): Promise<ResolverReport> {
    if (!this.#thread)
      return { containers: [], hostServers: this.#hostServers, cached: 0, cachedBytes: 0, heapBytes: 0 };
    return (await this.#thread.give({ op: "list" })) as ResolverReport;
  }

  /** What a container would get. @throws {NameServiceError} */
  async query(containerId: string, name: string, type: number): Promise<QueryReport> {
    const known = [...this.#known.values()].find(({ entry }) => entry.containerId === containerId);
    if (!known) throw new NameServiceError(`container ${containerId} has no names here`);
    const { network, ifName } = known.entry;
    const key = { network, containerId, ifName };
    return (await this.#running().give({ op: "query", key, name, type })) as QueryReport;
  }

  /** @throws {NameServiceError} */
  async log(after: number): Promise<LogReport> {
    if (!this.#thread) return { entries: [] };
    return (await this.#thread.give({ op: "log", after })) as LogReport;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#watcher?.close();
    unwatchFile(this.#options.resolvConf);
    await this.#thread?.stop();
  }

  async #add(entry: NameEntry): Promise<void> {
    const key = keyText(entry);
    const text = JSON.stringify(entry);
    if (this.#known.get(key)?.text === text) return;
    this.#forget(key);
    this.#known.set(key, { entry, text });
    const place = namespaceText(entry.netns);
    const there = this.#byNamespace.get(place);
    if (there) there.set(key, entry);
    else this.#byNamespace.set(place, new Map([[key, entry]]));
    this.#tell(entry.network);
    await this.#inOrder(this.#running().give({ op: "add", entry }));
  }

  async #remove(key: NameKey): Promise<void> {
    this.#forget(keyText(key));
    // Also of one that is not known: an earlier add may be under way.
    if (this.#thread) await this.#inOrder(this.#thread.give({ op: "remove", key }));
  }

  #forget(key: string): void {
    const known = this.#known.get(key);
    if (!known) return;
    this.#known.delete(key);
    this.#problems.delete(key);
    const place = namespaceText(known.entry.netns);
    const there = this.#byNamespace.get(place);
    there?.delete(key);
    if (there?.size === 0) this.#byNamespace.delete(place);
    this.#tell(known.entry.network);
  }

  #tell(network: string): void {
    for (const listener of this.#listeners) listener(network);
  }

  /** The thread takes orders in their order; `sync()` returns after the last of them. */
  async #inOrder(order: Promise<unknown>): Promise<void> {
    this.#lastChange = order.catch(() => undefined);
    await order;
  }

  #running(): ResolverThread {
    if (this.#thread) return this.#thread;
    if (this.#isClosed) throw new NameServiceError("the resolver is stopping", { isTemporary: true });
    const thread = new ResolverThread(this.#options.log);
    this.#thread = thread;
    void thread.ended.then(() => this.#revive());
    void thread.give({ op: "hostServers", addresses: this.#hostServers }).catch(() => undefined);
    void this.#tellForeign(thread).catch(() => undefined);
    return thread;
  }

  /** A few at a time: of all at once there would be three copies for a while. */
  async #tellForeign(thread: ResolverThread): Promise<void> {
    for (const put of parts(this.#foreign(), toldAtOnce)) await thread.give({ op: "foreign", put, gone: [] });
  }

  async #revive(): Promise<void> {
    this.#thread = undefined;
    if (this.#isClosed) return;
    this.#options.log.error("resolver: starting its thread again", { containers: this.#known.size });
    await sleep(restartMs, undefined, { ref: false });
    if (this.#known.size === 0 || this.#isClosed) return;
    this.#known.clear();
    this.#byNamespace.clear();
    await this.sync();
  }

  #mine(key: NameKey): void {
    const name = basename(this.#options.registry.pathOf(key));
    this.#own.set(name, (this.#own.get(name) ?? 0) + 1);
  }

  /** Somebody has written or removed a file of the registry. */
  #noticed(name: string): void {
    const own = this.#own.get(name);
    if (own !== undefined) {
      if (own > 1) this.#own.set(name, own - 1);
      else this.#own.delete(name);
      return;
    }
    void this.sync().catch((error: unknown) =>
      this.#options.log.error("resolver: cannot read the registry", { error: String(error) }),
    );
  }

  #complain(entry: NameEntry, error: unknown): void {
    const { network, containerId, ifName } = entry;
    const reason = error instanceof Error ? error.message : String(error);
    this.#problems.set(keyText(entry), reason);
    this.#options.log.warn("resolver: cannot serve", { network, containerId, ifName, reason });
  }

  #readHostServers(): void {
    const { resolvConf, log } = this.#options;
    let text = "";
    try {
      text = readFileSync(resolvConf, "utf8");
    } catch (error) {
      // What it was remains: a file that is being replaced is back in a moment.
      log.warn("resolver: cannot read the host's servers", { path: resolvConf, error: String(error) });
      return;
    }
    this.#hostServers = parseNameServers(text, tryParseIp).map(formatIp);
    log.debug("resolver: the host's servers", { servers: this.#hostServers });
  }
}

function namespaceText({ dev, ino }: NamespaceId): string {
  return `${dev}:${ino}`;
}
