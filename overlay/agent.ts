import { readFileSync, rmSync, watch } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Changes, Engine, Snapshot } from "#engine/engine.ts";
import { CompactedError, RewoundError } from "#engine/error.ts";
import { readAllAddresses } from "#kernel/address.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Log } from "#machine/log.ts";
import { replaceFile } from "#machine/replace-file.ts";
import { formatCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { equalIp, type IpAddress, isLinkLocal, parseIp } from "#net/ip.ts";
import type { Nftables } from "#nftables/nftables.ts";
import { applyOverlayRules } from "#nftables/overlay-rules.ts";
import { AddressKeeper } from "./address-keeper.ts";
import { Cluster } from "./cluster.ts";
import { keepConflists } from "./conflist-files.ts";
import { reconcile, removeStaleBridges } from "./dataplane.ts";
import { desiredTunnels, mtuOf, type Tunnel } from "./desired.ts";
import { OverlayError } from "./error.ts";
import type { HostSettings } from "./host-settings.ts";
import { overlayBridgeName } from "./identity.ts";
import { Keys } from "./keys.ts";
import { type LocalNetwork, LocalNetworks } from "./local-network.ts";
import { formatRecord, type HostRecord } from "./record.ts";
import { Session, sessionSeconds } from "./session.ts";
import { ClusterView } from "./view.ts";

/** How often the kernel is compared with what it should be, whether or not anything is known to have changed. */
const passIntervalMs = 1500;
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
  readonly log: Log;
}

export interface AgentStatus {
  /** The engine answers, and what it says is believed. */
  readonly connected: boolean;
  /** Milliseconds since it last did; 0 while it does. */
  readonly awayMs: number;
  readonly revision: number;
  readonly networks: readonly LocalNetwork[];
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
  readonly #networks: LocalNetworks;
  readonly #stopping = new AbortController();
  readonly #cluster: Cluster;
  readonly #keeper: AddressKeeper;
  #session: Session | undefined;
  #self: HostRecord | undefined;
  #connected = false;
  #lostAt = performance.now();
  /** Why the engine's list was not believed. */
  #distrust: string | undefined;
  #failures: readonly string[] = [];
  readonly #problems = new Map<string, string>();
  #savedRevision = 0;
  #guarding: Promise<void> | undefined;
  #passQueued = false;
  #upkeepRunning: Promise<void> | undefined;
  #upkeepAgain = false;
  #local: readonly LocalNetwork[] = [];
  #tasks: Promise<void>[] = [];

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#keys = new Keys(options.settings.cluster);
    this.#view = new ClusterView(this.#keys);
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
  }

  /** Returns at once; nothing waits for the engine. */
  start(): void {
    this.#loadKnown();
    this.#pass();
    const wanted = watch(this.#networks.wantedDirectory, { persistent: false }, () => this.#keepUp());
    this.#stopping.signal.addEventListener("abort", () => wanted.close());
    this.#tasks = [
      this.#every(passIntervalMs, () => this.#pass()),
      this.#every(upkeepIntervalMs, () => this.#keepUp()),
      this.#follow(),
      this.#attend(),
    ];
  }

  /** Leaves everything in the kernel, and the host in the engine. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#tasks);
    await this.#upkeepRunning;
    await this.#guarding;
    this.#save();
    await this.#options.engine.close();
  }

  /** For a host that leaves the cluster: takes its tunnels and the cluster's networks away, and ends its session. */
  async leave(): Promise<void> {
    const { namespace, nftables, confDirectory, settings, directory, log } = this.#options;
    this.#stopping.abort();
    await Promise.all(this.#tasks);
    await this.#upkeepRunning;
    await this.#guarding;
    await applyOverlayRules(nftables, undefined).catch((error: unknown) => this.#note("rules", error));
    const { failures } = reconcile(namespace, [], () => undefined);
    for (const failure of failures) log.warn("cannot change the kernel", { failure });
    removeStaleBridges(namespace, []);
    keepConflists(confDirectory, [], settings.uuid);
    this.#networks.replace([]);
    rmSync(join(directory, "known.json"), { force: true });
    await this.#session?.end().catch((error: unknown) => {
      log.warn("cannot end the session; it ends by itself", { error: messageOf(error) });
    });
    await this.#options.engine.close();
  }

  status(): AgentStatus {
    const problems = [
      ...(this.#distrust === undefined ? [] : [`Nothing of the engine is believed: ${this.#distrust}`]),
      ...this.#failures,
      ...this.#problems.values(),
      ...this.#view.problems,
    ];
    return {
      connected: this.#connected,
      awayMs: this.#connected ? 0 : Math.round(performance.now() - this.#lostAt),
      revision: this.#view.revision,
      networks: this.#local,
      problems,
    };
  }

  async #every(intervalMs: number, action: () => void): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await sleep(intervalMs, undefined, { signal, ref: true }).catch(() => undefined);
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
    const snapshot = await engine.list(this.#keys.prefix);
    const trust = this.#view.judge(snapshot, settings.uuid);
    if (!trust.trusted) {
      this.#distrust = trust.reason;
      throw new OverlayError("conflict", trust.reason);
    }
    if (this.#distrust !== undefined)
      log.info("the engine is believed again", { revision: snapshot.revision });
    this.#distrust = undefined;
    this.#view.replace(snapshot);
    if (!this.#connected) log.info("connected to the engine", { revision: snapshot.revision });
    this.#connected = true;
    this.#changed();
  }

  #take(changes: Changes): void {
    this.#view.apply(changes);
    this.#connected = true;
    this.#changed();
  }

  #lose(error: unknown): void {
    if (this.#connected) {
      this.#lostAt = performance.now();
      this.#options.log.warn("lost the engine; what is forwarded stays as it is", {
        error: messageOf(error),
      });
    }
    this.#connected = false;
  }

  #changed(): void {
    this.#queuePass();
    this.#keepUp();
  }

  // Presence

  /** Keeps the host registered. */
  async #attend(): Promise<void> {
    const { signal } = this.#stopping;
    let retryMs = shortestPauseMs;
    while (!signal.aborted) {
      let pauseMs = (sessionSeconds / 3) * 1000;
      try {
        if (!(await this.#isPresent())) {
          await this.#register();
          this.#keepUp();
        }
        retryMs = shortestPauseMs;
      } catch (error) {
        this.#note("registration", error);
        pauseMs = retryMs;
        retryMs = Math.min(retryMs * 2, longestPauseMs);
      }
      await this.#pauseUntilAddressChanges(pauseMs);
    }
  }

  async #isPresent(): Promise<boolean> {
    if (this.#hasMoved()) {
      // What is connected was so from the old address: its packets go nowhere, and nobody says so.
      this.#options.engine.reconnect();
      return false;
    }
    return this.#session !== undefined && (await this.#session.keepAlive());
  }

  /** True if this host is not as it has registered. */
  #hasMoved(): boolean {
    const self = this.#readSelf();
    return self !== undefined && this.#self !== undefined && formatRecord(self) !== formatRecord(this.#self);
  }

  async #register(): Promise<void> {
    const { engine, settings, log } = this.#options;
    const self = this.#readSelf();
    if (!self)
      throw new OverlayError(
        "missing",
        `No device has the underlay address of this host: ${JSON.stringify(settings.underlay)}`,
      );
    this.#session = await Session.begin(engine, this.#keys, self, settings.nonce);
    this.#self = self;
    this.#problems.delete("registration");
    log.info("registered", { host: self.id, underlay: settings.underlay });
    this.#queuePass();
  }

  async #pauseUntilAddressChanges(timeMs: number): Promise<void> {
    const { signal } = this.#stopping;
    const end = performance.now() + timeMs;
    while (!signal.aborted && performance.now() < end) {
      await sleep(Math.min(passIntervalMs, end - performance.now()), undefined, { signal }).catch(
        () => undefined,
      );
      if (this.#hasMoved()) return;
    }
  }

  /** This host as it is now; undefined while its underlay has no address. */
  #readSelf(): HostRecord | undefined {
    const { settings, namespace } = this.#options;
    const { underlay } = settings;
    let device: number | undefined;
    let v4: IpAddress | undefined;
    let v6: IpAddress | undefined;
    if ("device" in underlay) {
      device = readLink(namespace, parseIfName(underlay.device))?.ifindex;
      const addresses = readAllAddresses(namespace)
        .filter((one) => one.ifindex === device)
        .map(({ address }) => address.address);
      v4 = addresses.find((ip) => ip.family === 4);
      v6 = addresses.find((ip) => ip.family === 6 && !isLinkLocal(ip));
    } else {
      v4 = underlay.v4 === undefined ? undefined : parseIp(underlay.v4);
      v6 = underlay.v6 === undefined ? undefined : parseIp(underlay.v6);
      const first = v4 ?? v6;
      device = first && this.#deviceOf(first);
    }
    const mtu = device === undefined ? undefined : readLink(namespace, device)?.mtu;
    if (mtu === undefined || !(v4 ?? v6)) return undefined;
    const underlayNow = { ...(v4 && { v4 }), ...(v6 && { v6 }) };
    return { v: 1, id: settings.hostId, name: settings.name, underlay: underlayNow, mtu, state: "active" };
  }

  #deviceOf(ip: IpAddress): number | undefined {
    const holder = readAllAddresses(this.#options.namespace).find(({ address }) =>
      equalIp(address.address, ip),
    );
    return holder?.ifindex;
  }

  // The kernel

  #queuePass(): void {
    if (this.#passQueued) return;
    this.#passQueued = true;
    setImmediate(() => {
      this.#passQueued = false;
      if (!this.#stopping.signal.aborted) this.#pass();
    });
  }

  #pass(): void {
    const { namespace, log } = this.#options;
    try {
      const self = this.#self ?? this.#view.hosts.get(this.#options.settings.hostId);
      if (!self || !this.#view.cluster) return;
      const tunnels = desiredTunnels(this.#view, self);
      const { changes, failures } = reconcile(namespace, tunnels, (local) => this.#deviceOf(local));
      if (changes.length > 0)
        log.info("changed the kernel", { changes: changes.slice(0, 20), count: changes.length });
      for (const failure of failures)
        if (!this.#failures.includes(failure)) log.warn("cannot change the kernel", { failure });
      this.#failures = failures;
      this.#guard(tunnels);
      this.#writeNetworks(
        self,
        tunnels.map(({ name, network }) => [network, name] as const),
      );
    } catch (error) {
      this.#failures = [messageOf(error)];
      log.error("cannot compare the kernel with what it should be", { error: messageOf(error) });
    }
  }

  /** Rules for the tunnels. One change at a time; a pass that comes meanwhile is made up for by the next one. */
  #guard(tunnels: readonly Tunnel[]): void {
    const { nftables, log } = this.#options;
    if (this.#guarding || !this.#view.cluster) return;
    const vteps = [...this.#view.hosts.values()].flatMap(({ underlay }) => [underlay.v4, underlay.v6]);
    const rules = {
      udpPort: this.#view.cluster.udpPort,
      vteps: vteps.filter((ip) => ip !== undefined),
      tunnels: tunnels.map(({ name, vni, network }) => ({
        tunnel: name,
        bridge: overlayBridgeName(vni),
        internal: this.#view.networks.get(network)?.record.internal === true,
      })),
    };
    this.#guarding = applyOverlayRules(nftables, rules)
      .then((changes) => {
        this.#problems.delete("rules");
        if (changes.length > 0)
          log.info("changed the rules", { changes: changes.slice(0, 20), count: changes.length });
      })
      .catch((error: unknown) => this.#note("rules", error))
      .finally(() => {
        this.#guarding = undefined;
      });
  }

  #writeNetworks(self: HostRecord, tunnels: readonly (readonly [network: string, device: string])[]): void {
    this.#local = [...this.#view.networks.values()].map(({ record }) => {
      const blocks = this.#keeper.blocksOf(record.name);
      const holders = [...new Set([self.id, ...this.#holdersOf(record.name)])];
      const family = self.underlay.v4 ? 4 : 6;
      return {
        v: 1,
        name: record.name,
        id: record.id,
        vni: record.vni,
        mtu: mtuOf(record, this.#view, holders, family),
        internal: record.internal,
        subnets: record.subnets.map(({ cidr }) => formatCidr(cidr)),
        blocks: blocks.map(({ record: block }) => formatCidr(block.cidr)),
        tunnels: tunnels.filter(([network]) => network === record.name).map(([, device]) => device),
        state: record.state,
      };
    });
    this.#networks.replace(this.#local);
    if (!this.#connected) return;
    const { confDirectory, settings, log } = this.#options;
    const records = [...this.#view.networks.values()].map(({ record }) => record);
    removeStaleBridges(
      this.#options.namespace,
      records.map(({ vni }) => vni),
    );
    const done = keepConflists(confDirectory, records, settings.uuid);
    if (done.length > 0) log.info("changed the networks of this host", { done });
  }

  #holdersOf(network: string): readonly string[] {
    return [...this.#view.blocks.values()]
      .filter((block) => block.network === network)
      .map(({ record }) => record.host);
  }

  // Addresses

  #keepUp(): void {
    if (this.#upkeepRunning) {
      this.#upkeepAgain = true;
      return;
    }
    this.#upkeepRunning = this.#upkeep()
      .catch((error: unknown) => this.#note("addresses", error))
      .finally(() => {
        this.#upkeepRunning = undefined;
        if (!this.#upkeepAgain || this.#stopping.signal.aborted) return;
        this.#upkeepAgain = false;
        this.#keepUp();
      });
  }

  async #upkeep(): Promise<void> {
    const fence = this.#session?.fence;
    if (!fence || !this.#connected) return;
    const wanted = new Set(this.#networks.wanted());
    for (const network of this.#view.networks.values()) {
      const { name, state } = network.record;
      // Whoever sees that nobody has addresses any more takes it away.
      if (state === "deleting" && this.#holdersOf(name).length === 0) await this.#dropNetwork(name);
      else await this.#keeper.keep(network, fence, wanted.has(name));
      this.#networks.satisfied(name);
    }
    this.#problems.delete("addresses");
    this.#save();
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

  // What was known last, for a start without the engine

  get #knownPath(): string {
    return join(this.#options.directory, "known.json");
  }

  #loadKnown(): void {
    try {
      const snapshot = JSON.parse(readFileSync(this.#knownPath, "utf8")) as Snapshot;
      this.#view.replace(snapshot);
      this.#savedRevision = snapshot.revision;
    } catch {
      // None, or a damaged one: the engine is asked.
    }
  }

  #save(): void {
    if (this.#view.revision === this.#savedRevision) return;
    try {
      replaceFile(this.#knownPath, JSON.stringify(this.#view.snapshot()), 0o600);
      this.#savedRevision = this.#view.revision;
    } catch (error) {
      this.#options.log.warn("cannot keep what is known of the cluster", { error: messageOf(error) });
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
