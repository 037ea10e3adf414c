import { watch } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Changes, Engine } from "#engine/engine.ts";
import { CompactedError, EngineError, RewoundError } from "#engine/error.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Log } from "#machine/log.ts";
import { formatIp } from "#net/ip.ts";
import type { Nftables } from "#nftables/nftables.ts";
import { AddressKeeper } from "./address-keeper.ts";
import { BulkSender } from "./bulk-sender.ts";
import { Cluster } from "./cluster.ts";
import { ClusterList } from "./cluster-list.ts";
import { keepConflists } from "./conflist-files.ts";
import { desiredTunnels } from "./desired.ts";
import { Encryption } from "./encryption/encryption.ts";
import { EndpointKeeper, type LocalEndpoint } from "./endpoint-keeper.ts";
import { OverlayError } from "./error.ts";
import { HeldDeletions } from "./held-deletions.ts";
import type { HostSettings } from "./host-settings.ts";
import { KernelKeeper } from "./kernel-keeper.ts";
import { KernelWatch } from "./kernel-watch.ts";
import { Keys } from "./keys.ts";
import { KnownFile } from "./known-file.ts";
import { type LocalNetwork, LocalNetworks } from "./local-network.ts";
import type { NameExchange } from "./name-exchange.ts";
import { NameKeeper } from "./name-keeper.ts";
import { Presence } from "./presence.ts";
import { readKnown } from "./read-known.ts";
import type { HostRecord } from "./record.ts";
import { Recurrent } from "./recurrent.ts";
import { readSelf } from "./self.ts";
import { ClusterView, type Distrust } from "./view.ts";

/**
 * How often the kernel is compared with what it should be, whether or not anything is known to have changed: for what
 * the kernel tells nobody, and where it tells nothing at all.
 */
const passIntervalMs = 10_000;
const blindPassIntervalMs = 1500;
/** How often blocks are counted. */
const upkeepIntervalMs = 5000;
const shortestPauseMs = 200;
const longestPauseMs = 10_000;

export interface AgentOptions {
  readonly settings: HostSettings;
  /** Opened by the caller, closed by `stop`. */
  readonly engine: Engine;
  /** The host's. Not closed. */
  readonly namespace: NetworkNamespace;
  /** The overlay's: settings, networks, leases, what was known last. */
  readonly directory: string;
  readonly nftables: Nftables;
  /** Where runtimes look for conflists: the cluster's networks are put there. */
  readonly confDirectory: string;
  /** The resolver, for networks whose names reach over all hosts. */
  readonly names: NameExchange;
  readonly log: Log;
  /** Containers of this host in a network, with their MAC addresses. */
  readonly endpoints: (network: string) => readonly LocalEndpoint[];
  /** Called with a process that was started and must outlive this one. */
  readonly adopt: (pid: number) => Promise<void>;
}

export interface AgentStatus {
  /** The engine answers, and what it says is believed. */
  readonly connected: boolean;
  /** Milliseconds since it last did; 0 while it does. */
  readonly awayMs: number;
  /** There where it answers, and what it says is not believed; a part of `problems` as well. */
  readonly distrust?: Distrust;
  readonly revision: number;
  readonly networks: readonly LocalNetwork[];
  /** Public keys of this host's encryption, oldest first; two while one replaces the other. */
  readonly publicKeys: readonly string[];
  /** For an operator, each a sentence. */
  readonly problems: readonly string[];
}

/**
 * The overlay on one host: follows the engine, claims and gives back blocks of addresses, and keeps the kernel as it
 * should be. What was made stays as it is while the engine is away, and only what is said to be gone is removed.
 */
export class OverlayAgent {
  readonly #options: AgentOptions;
  readonly #keys: Keys;
  readonly #view: ClusterView;
  readonly #vanished: HeldDeletions;
  readonly #networks: LocalNetworks;
  readonly #stopping = new AbortController();
  readonly #cluster: Cluster;
  readonly #keeper: AddressKeeper;
  readonly #kernel: KernelKeeper;
  readonly #watch: KernelWatch;
  #passIntervalMs = blindPassIntervalMs;
  readonly #names: NameKeeper;
  readonly #encryption: Encryption;
  readonly #endpoints: EndpointKeeper;
  readonly #known: KnownFile;
  readonly #knownNames: KnownFile;
  readonly #presence: Presence;
  readonly #bulk: BulkSender;
  #connected = false;
  #lostAt = performance.now();
  /** Why the engine's list was not believed. */
  #distrust: Distrust | undefined;
  readonly #problems = new Map<string, string>();
  /** A list of the engine was believed since the start. */
  #wasHeard = false;
  #passQueued: "none" | "changes" | "whole" = "none";
  #learnQueued = false;
  readonly #upkeeping = new Recurrent(() =>
    this.#upkeep().catch((error: unknown) => this.#note("addresses", error)),
  );
  #tasks: Promise<void>[] = [];

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#keys = new Keys(options.settings.cluster);
    this.#view = new ClusterView(this.#keys, (key) => this.#noteChange(key));
    this.#vanished = new HeldDeletions(this.#keys, (changes) =>
      this.#apply({ revision: this.#view.revision, changes }),
    );
    this.#cluster = new Cluster(options.engine, options.settings.cluster);
    this.#networks = new LocalNetworks(options.directory);
    this.#keeper = new AddressKeeper({
      engine: options.engine,
      keys: this.#keys,
      hostId: options.settings.hostId,
      view: this.#view,
      networks: this.#networks,
      problems: this.#problems,
      log: options.log,
      changed: () => this.#pass(),
    });
    this.#bulk = new BulkSender(options.engine, options.log);
    this.#endpoints = new EndpointKeeper({
      engine: options.engine,
      keys: this.#keys,
      hostId: options.settings.hostId,
      view: this.#view,
      local: options.endpoints,
      fence: () => (this.#connected ? this.#presence.fence : undefined),
    });
    this.#encryption = new Encryption({
      namespace: options.namespace,
      directory: options.directory,
      hostId: options.settings.hostId,
      log: options.log,
      problems: this.#problems,
      adopt: options.adopt,
      changed: () => this.#queuePass(true),
    });
    this.#kernel = new KernelKeeper({
      settings: options.settings,
      namespace: options.namespace,
      nftables: options.nftables,
      confDirectory: options.confDirectory,
      log: options.log,
      view: this.#view,
      keeper: this.#keeper,
      networks: this.#networks,
      encryption: this.#encryption,
      problems: this.#problems,
      changed: () => this.#watch.refresh(),
    });
    this.#watch = new KernelWatch({
      namespace: options.namespace,
      nftables: options.nftables,
      isWanted: (place) => this.#kernel.isWanted(place),
      changed: () => this.#queuePass(true),
      rulesChanged: () => this.#kernel.doubtRules(),
      addressChanged: () => this.#presence.look(),
      ended: (error) => this.#lookOften(error),
    });
    this.#known = new KnownFile(options.directory, "known.json");
    this.#knownNames = new KnownFile(options.directory, "known-names.json");
    this.#presence = new Presence({
      engine: options.engine,
      keys: this.#keys,
      nonce: options.settings.nonce,
      readSelf: () => this.#readSelf(),
      underlay: JSON.stringify(options.settings.underlay),
      signal: this.#stopping.signal,
      log: options.log,
      registered: () => {
        this.#problems.delete("registration");
        this.#changed();
      },
      answered: () => this.#regain(),
      failed: (error) => {
        this.#note("registration", error);
        if (error instanceof EngineError && error.fault === "unavailable") this.#lose(error);
      },
    });
    this.#names = new NameKeeper({
      engine: options.engine,
      keys: this.#keys,
      hostId: options.settings.hostId,
      view: this.#view,
      exchange: options.names,
      fence: () => (this.#connected ? this.#presence.fence : undefined),
      note: (error) => this.#note("names", error),
      well: () => this.#problems.delete("names"),
    });
  }

  /** Returns at once; nothing waits for the engine. */
  start(): void {
    const known = readKnown(this.#keys, this.#known, this.#knownNames);
    if (known) this.#view.replace(known);
    this.#names.learn();
    try {
      this.#watch.start();
      this.#passIntervalMs = passIntervalMs;
    } catch (error) {
      this.#lookOften(error);
    }
    this.#pass();
    const wanted = watch(this.#networks.wantedDirectory, { persistent: false }, () => this.#changed());
    this.#stopping.signal.addEventListener("abort", () => wanted.close());
    this.#tasks = [
      this.#every(
        () => this.#passIntervalMs,
        () => this.#pass(),
      ),
      this.#every(
        () => upkeepIntervalMs,
        () => this.#keepUp(),
      ),
      this.#follow(),
      this.#presence.attend(),
    ];
  }

  /** Leaves everything in the kernel, and the host in the engine. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#vanished.forget();
    await this.#settle();
    await this.#kernel.settle();
    this.#save(() => {
      this.#saveView();
      this.#saveNames();
    });
    await this.#options.engine.close();
  }

  /** For a host that leaves the cluster: takes its tunnels and the cluster's networks away, and ends its session. */
  async leave(): Promise<void> {
    const { confDirectory, settings, log } = this.#options;
    this.#stopping.abort();
    this.#vanished.forget();
    await this.#settle();
    this.#names.forget();
    await this.#kernel.clear();
    keepConflists(confDirectory, [], settings.uuid);
    this.#networks.replace([]);
    this.#known.remove();
    this.#knownNames.remove();
    await this.#presence.end().catch((error: unknown) => {
      log.warn("cannot end the session; it ends by itself", { error: messageOf(error) });
    });
    await this.#options.engine.close();
  }

  #lookOften(error: unknown): void {
    this.#passIntervalMs = blindPassIntervalMs;
    this.#options.log.warn("the kernel does not tell what changes: looking at it often", {
      error: messageOf(error),
    });
  }

  async #settle(): Promise<void> {
    this.#watch.close();
    this.#bulk.close();
    await Promise.all(this.#tasks);
    await this.#upkeeping.close();
    await this.#names.close();
  }

  status(): AgentStatus {
    const problems = [
      ...(this.#distrust ? [`Nothing of the engine is believed: ${wordsOf(this.#distrust)}`] : []),
      ...this.#kernel.failures,
      ...this.#problems.values(),
      ...this.#view.problems,
    ];
    return {
      connected: this.#connected,
      awayMs: this.#connected ? 0 : Math.round(performance.now() - this.#lostAt),
      ...(this.#distrust && { distrust: this.#distrust }),
      revision: this.#view.revision,
      networks: this.#kernel.networks,
      publicKeys: this.#encryption.published?.keys.map(({ publicKey }) => publicKey) ?? [],
      problems,
    };
  }

  async #every(intervalMs: () => number, action: () => void): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await sleep(intervalMs(), undefined, { signal, ref: true }).catch(() => undefined);
      if (!signal.aborted) action();
    }
  }

  // What the engine says

  /** Lists, then watches from there; lists again when history has a gap, or the connection is not worth waiting for. */
  async #follow(): Promise<void> {
    const { signal } = this.#stopping;
    let pauseMs = shortestPauseMs;
    while (!signal.aborted) {
      try {
        await this.#takeList();
        pauseMs = shortestPauseMs;
        const { engine } = this.#options;
        for await (const changes of engine.watch(this.#keys.prefix, this.#view.revision + 1, signal))
          this.#take(changes);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof CompactedError || error instanceof RewoundError)) this.#lose(error);
        await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
        pauseMs = Math.min(pauseMs * 2, longestPauseMs);
      }
    }
  }

  async #takeList(): Promise<void> {
    const { engine, settings, log } = this.#options;
    const list = new ClusterList(this.#keys);
    for await (const part of engine.listInParts(this.#keys.prefix)) list.add(part);
    const { revision } = list;
    const trust = this.#view.judge(list, settings.uuid, this.#wasHeard);
    if (!trust.trusted) {
      this.#distrust = { reason: trust.reason, remedy: trust.remedy };
      throw new OverlayError("conflict", trust.reason);
    }
    if (this.#distrust !== undefined) log.info("the engine is believed again", { revision });
    this.#distrust = undefined;
    this.#vanished.forget();
    this.#view.replace(list);
    this.#wasHeard = true;
    // After a gap the session may be gone, or be in an engine that has lost it.
    this.#presence.poke();
    if (!this.#connected) {
      log.info("connected to the engine", { revision });
      log.event({ type: "engine", action: "connect" });
    }
    this.#connected = true;
    this.#changed();
  }

  #noteChange(key: string): void {
    if (!this.#view.names.covers(key)) {
      this.#known.touch(key);
      return;
    }
    this.#knownNames.touch(key);
    this.#names.note(key);
  }

  /** @throws {OverlayError} where the engine loses what it should not: the list that follows is judged */
  #take({ revision, changes }: Changes): void {
    // What has come says which of the losses somebody has meant.
    this.#apply({ revision, changes: this.#vanished.take(changes) });
    const trust = this.#view.judgeLoss(this.#vanished.keys);
    if (!trust.trusted) {
      this.#vanished.forget();
      throw new OverlayError("conflict", trust.reason);
    }
    this.#connected = true;
  }

  #apply(changes: Changes): void {
    this.#view.apply(changes);
    this.#queueLearn();
    this.#answerTests(changes);
    const keys = changes.changes.map((change) => (change.kind === "put" ? change.entry.key : change.key));
    // Names move neither packets nor addresses, and there are many of them; nor do sessions, which all begin at once
    // when the hosts do.
    const { names, lives, hosts, vteps, blocks, endpoints } = this.#keys;
    const areIn = (...prefixes: readonly string[]) =>
      keys.every((key) => prefixes.some((prefix) => key.startsWith(prefix)));
    if (!areIn(names, lives)) this.#changed(!areIn(names, lives, hosts, vteps, blocks, endpoints));
  }

  /** Other hosts try the way between them and this one. */
  #answerTests({ changes }: Changes): void {
    const { hostId } = this.#options.settings;
    const asked = this.#keys.bulkAskedOf(hostId);
    for (const change of changes) {
      if (change.kind !== "put" || !change.entry.key.startsWith(asked)) continue;
      const self = this.#presence.self;
      const tunnels = self ? desiredTunnels(this.#view, self, this.#encryption.ends).tunnels : [];
      const own = tunnels
        .flatMap(({ addresses, stretch }) => stretch?.own.addresses ?? addresses)
        .map(({ address }) => formatIp(address));
      this.#bulk.offer(change.entry, new Set(own));
    }
  }

  #queueLearn(): void {
    if (this.#learnQueued) return;
    this.#learnQueued = true;
    setImmediate(() => {
      this.#learnQueued = false;
      if (!this.#stopping.signal.aborted) this.#names.learn();
    });
  }

  #lose(error: unknown): void {
    if (this.#connected) {
      this.#lostAt = performance.now();
      this.#options.log.warn("lost the engine; what is forwarded stays as it is", {
        error: messageOf(error),
      });
      this.#options.log.event({
        type: "engine",
        action: "disconnect",
        attributes: { error: messageOf(error) },
      });
    }
    this.#connected = false;
  }

  /** The watch goes on by itself; what it has missed it delivers. */
  #regain(): void {
    this.#problems.delete("registration");
    if (this.#connected || !this.#wasHeard || this.#distrust !== undefined) return;
    this.#connected = true;
    this.#options.log.info("the engine is back");
    this.#options.log.event({ type: "engine", action: "connect" });
    this.#changed();
  }

  /** @param isWhole false: other hosts and their containers have changed, and nothing else */
  #changed(isWhole = true): void {
    this.#queuePass(isWhole);
    this.#queueLearn();
    this.#keepUp();
  }

  // The kernel

  /** @param isWhole with all that the kernel has, not only what has changed in the cluster */
  #queuePass(isWhole: boolean): void {
    const before = this.#passQueued;
    if (isWhole || before === "none") this.#passQueued = isWhole ? "whole" : "changes";
    if (before !== "none") return;
    setImmediate(() => {
      const queued = this.#passQueued;
      this.#passQueued = "none";
      if (!this.#stopping.signal.aborted) this.#pass(queued === "whole");
    });
  }

  #readSelf(): HostRecord | undefined {
    const self = readSelf(this.#options.settings, this.#options.namespace);
    const { published } = this.#encryption;
    return self && published ? { ...self, wireguard: published } : self;
  }

  #pass(isWhole = true): void {
    const self = this.#presence.self ?? this.#view.hosts.get(this.#options.settings.hostId);
    if (!self) return;
    // Before the kernel is made so: who starts again without the engine must not know less than what is forwarded.
    this.#save(() => this.#saveView());
    // Where nobody tells what happens to the rules, each look is at them as well.
    if (this.#passIntervalMs === blindPassIntervalMs) this.#kernel.doubtRules();
    this.#kernel.pass(self, { connected: this.#connected, heard: this.#wasHeard }, !isWhole);
  }

  // Addresses

  #keepUp(): void {
    this.#upkeeping.request();
    this.#names.publish();
  }

  async #upkeep(): Promise<void> {
    const { fence } = this.#presence;
    if (!fence || !this.#connected) return;
    const wanted = new Set(this.#networks.wanted());
    for (const network of this.#view.networks.values()) {
      const { name, state } = network.record;
      // Whoever sees that nobody has addresses any more takes it away.
      if (state === "deleting" && this.#view.holdersOf(name).length === 0) await this.#dropNetwork(name);
      // A claim is refused while this host registers anew, say: whoever waits need not ask again.
      else if (!(await this.#keeper.keep(network, fence, wanted.has(name)))) {
        this.#networks.forgetOldWish(name);
        continue;
      }
      this.#networks.satisfied(name);
    }
    this.#keeper.forgetOthers(this.#view.networks);
    await this.#endpoints.publish(this.#networks.told());
    this.#problems.delete("addresses");
    this.#save(() => this.#saveNames());
  }

  async #dropNetwork(name: string): Promise<void> {
    try {
      await this.#cluster.removeNetwork(name);
    } catch (error) {
      // Another host was faster.
      if (!(error instanceof OverlayError && error.fault === "missing")) throw error;
    }
  }

  #note(what: string, error: unknown): void {
    const message = messageOf(error);
    if (this.#problems.get(what) !== message) this.#options.log.warn(`overlay: ${what}`, { error: message });
    this.#problems.set(what, message);
  }

  #saveView(): void {
    const { revision, others } = this.#view;
    const entry = (key: string) => others.get(key);
    this.#known.save({ revision, size: others.size, entry, entries: () => others.values() });
  }

  #saveNames(): void {
    const { revision, names } = this.#view;
    const entry = (key: string) => names.get(key);
    this.#knownNames.save({ revision, size: names.size, entry, entries: () => names.entries() });
  }

  #save(save: () => void): void {
    try {
      save();
    } catch (error) {
      this.#options.log.warn("cannot keep what is known of the cluster", { error: messageOf(error) });
    }
  }
}

function wordsOf({ reason, remedy }: Distrust): string {
  return `${reason}; ${remedy}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
