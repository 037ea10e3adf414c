import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Log } from "#machine/log.ts";
import { formatCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import type { IpAddress } from "#net/ip.ts";
import type { Nftables } from "#nftables/nftables.ts";
import { applyOverlayRules, type OwnAddress } from "#nftables/overlay-rules.ts";
import type { AddressKeeper } from "./address-keeper.ts";
import { removeStaleGateways } from "./bridge-gateways.ts";
import { keepConflists } from "./conflist-files.ts";
import { advance, reconcile, removeStaleBridges } from "./dataplane.ts";
import { type Desired, desiredTunnels, mtuOf, type Tunnel } from "./desired.ts";
import type { Encryption } from "./encryption/encryption.ts";
import type { HostSettings } from "./host-settings.ts";
import { overlayBridgeName } from "./identity.ts";
import type { LocalNetwork, LocalNetworks } from "./local-network.ts";
import type { HostRecord } from "./record.ts";
import { deviceOf } from "./self.ts";
import type { ClusterView } from "./view.ts";

/** How often the rules are compared though nobody has said that they have changed: the kernel tells of all changes. */
const rulesIntervalMs = 60_000;

/** What this host can say of the cluster now. */
export interface Knowledge {
  /** The engine is there, and believed. */
  readonly connected: boolean;
  /** It was since the start. */
  readonly heard: boolean;
}

export interface KernelKeeperOptions {
  readonly settings: HostSettings;
  /** The host's. Not closed. */
  readonly namespace: NetworkNamespace;
  readonly nftables: Nftables;
  readonly confDirectory: string;
  readonly log: Log;
  readonly view: ClusterView;
  readonly keeper: AddressKeeper;
  readonly networks: LocalNetworks;
  readonly encryption: Encryption;
  /** What an operator has to know, by what it is about. */
  readonly problems: Map<string, string>;
  /** Called when a pass has changed something. */
  readonly changed: () => void;
}

interface Made {
  readonly desired: Desired;
  readonly devices: ReadonlyMap<string, number>;
  /** Where there is something: `Key.place`. */
  readonly places: Set<string>;
}

/** Keeps this host as what is known of the cluster wants it: tunnels, rules, and what plugins and runtimes read. */
export class KernelKeeper {
  readonly #options: KernelKeeperOptions;
  #failures: readonly string[] = [];
  #networks: readonly LocalNetwork[] = [];
  #guarding: Promise<void> | undefined;
  /** What the last pass has made, and all well. */
  #made: Made | undefined;
  /** As the last look at the kernel found them. */
  #own: readonly OwnAddress[] = [];
  /** The rules as they were applied last, in one text. */
  #applied = "";
  #appliedAtMs = Number.NEGATIVE_INFINITY;
  #areRulesDue = true;

  constructor(options: KernelKeeperOptions) {
    this.#options = options;
  }

  /** Of the last pass. */
  get failures(): readonly string[] {
    return this.#failures;
  }

  /** What plugins were told last. */
  get networks(): readonly LocalNetwork[] {
    return this.#networks;
  }

  /** Whether something should stand there, `Key.place`. True where nobody can say. */
  isWanted(place: string): boolean {
    return this.#made?.places.has(place) ?? true;
  }

  /** The next pass looks at the rules, whether or not they should be others than before. */
  doubtRules(): void {
    this.#areRulesDue = true;
  }

  /**
   * Compares once, and mends.
   * @param knowledge connected: the engine is there, and what it does not have has gone; heard: it was since the start,
   * and before that, what is not known may still be wanted
   * @param isChange what is known of the cluster has changed, and nothing says that the kernel has
   * @throws nothing
   */
  pass(self: HostRecord, knowledge: Knowledge, isChange: boolean): void {
    const { view, encryption, log } = this.#options;
    if (!view.cluster) return;
    try {
      const users = view.usersOfEncryption();
      const others = [...view.hosts.values()].filter(({ id }) => id !== self.id);
      encryption.keep({ self, others, users, mayRemove: knowledge.heard });
      // It tells when it has looked; until then nobody knows which tunnels there should be.
      if (users && !encryption.hasLooked) return;
      const desired = desiredTunnels(view, self, encryption.ends);
      const isWhole = !(isChange && this.#advance(desired, knowledge));
      if (isWhole) {
        this.#compare(desired, knowledge);
        const addresses = [self.underlay.v4, self.underlay.v6].filter((ip) => ip !== undefined);
        this.#own = addresses.map((address) => this.#ownAddress(address));
      }
      this.#guard(view.cluster.udpPort, desired.tunnels);
      this.#writeNetworks(self, desired.tunnels);
      if (knowledge.heard && isWhole) this.#dropGateways();
      if (knowledge.connected && isWhole) this.#keepNetworks();
    } catch (error) {
      this.#made = undefined;
      this.#failures = [messageOf(error)];
      log.error("cannot compare the kernel with what it should be", { error: messageOf(error) });
    }
  }

  /** With all that the kernel has. */
  #compare(desired: Desired, { heard }: Knowledge): void {
    const { namespace, log } = this.#options;
    const underlayDevice = (local: IpAddress) => deviceOf(namespace, local);
    const { changes, failures, devices, places } = reconcile(namespace, desired, underlayDevice, heard);
    this.#log(changes);
    if (changes.length > 0) this.#options.changed();
    for (const failure of failures)
      if (!this.#failures.includes(failure)) log.warn("cannot change the kernel", { failure });
    this.#failures = failures;
    this.#made = heard && failures.length === 0 ? { desired, devices, places: new Set(places) } : undefined;
  }

  /** Only what differs from what was made last. @returns false where that is not enough */
  #advance(desired: Desired, { heard }: Knowledge): boolean {
    const made = this.#made;
    this.#made = undefined;
    if (!made || !heard) return false;
    const done = advance(this.#options.namespace, made.devices, made.desired, desired);
    if (!done) return false;
    this.#log(done.changes);
    if (done.failures.length > 0) return false;
    for (const place of done.come) made.places.add(place);
    for (const place of done.gone) made.places.delete(place);
    this.#made = { ...made, desired };
    return true;
  }

  #log(changes: readonly string[]): void {
    if (changes.length > 0)
      this.#options.log.info("changed the kernel", { changes: changes.slice(0, 20), count: changes.length });
  }

  /** Once what was begun has ended. */
  async settle(): Promise<void> {
    await this.#guarding;
    await this.#options.encryption.settle();
  }

  /** Takes away all that passes have made. @throws nothing */
  async clear(): Promise<void> {
    const { namespace, nftables, encryption, log } = this.#options;
    await this.#guarding;
    await applyOverlayRules(nftables, undefined).catch((error: unknown) => this.#note(error));
    const { failures } = reconcile(namespace, { tunnels: [], subnets: [] }, () => undefined);
    for (const failure of failures) log.warn("cannot change the kernel", { failure });
    removeStaleBridges(namespace, []);
    await encryption.clear().catch((error: unknown) => {
      log.warn("cannot remove the encryption", { error: messageOf(error) });
    });
  }

  /** Rules for the tunnels. One change at a time; a pass that comes meanwhile is made up for by the next one. */
  #guard(udpPort: number, tunnels: readonly Tunnel[]): void {
    const { nftables, view, encryption, problems, log } = this.#options;
    if (this.#guarding) return;
    const vteps = [...view.hosts.values()].flatMap(({ underlay }) => [underlay.v4, underlay.v6]);
    const rules = {
      udpPort,
      vteps: vteps.filter((ip) => ip !== undefined),
      own: this.#own,
      encryptors: encryption.ends.map(({ name }) => name),
      tunnels: tunnels.map(({ name, vni, network, stretch }) => ({
        tunnel: name,
        bridge: overlayBridgeName(vni),
        internal: view.networks.get(network)?.record.internal === true,
        stretched: stretch !== undefined,
      })),
    };
    const text = JSON.stringify(rules, (_key, value: unknown) =>
      typeof value === "bigint" ? `${value}` : value,
    );
    const isOld = performance.now() - this.#appliedAtMs > rulesIntervalMs;
    if (text === this.#applied && !this.#areRulesDue && !isOld) return;
    // Who doubts meanwhile does so for the next time.
    this.#areRulesDue = false;
    this.#appliedAtMs = performance.now();
    this.#guarding = applyOverlayRules(nftables, rules)
      .then((changes) => {
        this.#applied = text;
        problems.delete("rules");
        encryption.arm(rules.encryptors);
        if (changes.length > 0)
          log.info("changed the rules", { changes: changes.slice(0, 20), count: changes.length });
      })
      .catch((error: unknown) => {
        this.#areRulesDue = true;
        this.#note(error);
      })
      .finally(() => {
        this.#guarding = undefined;
      });
  }

  /** With the device that has the address, if it is no bridge: what comes by one may be from whoever is behind it. */
  #ownAddress(address: IpAddress): OwnAddress {
    const { namespace } = this.#options;
    const ifindex = deviceOf(namespace, address);
    const link = ifindex === undefined ? undefined : readLink(namespace, ifindex);
    if (!link || link.kind === "bridge") return { address, device: undefined };
    return { address, device: { name: parseIfName(link.name), ifindex: link.ifindex } };
  }

  /** For plugins, on disk. */
  #writeNetworks(self: HostRecord, tunnels: readonly Tunnel[]): void {
    const { view, keeper, networks } = this.#options;
    this.#networks = [...view.networks.values()].map(({ record }) => {
      const holders = [...new Set([self.id, ...view.holdersOf(record.name)])];
      return {
        v: 1,
        name: record.name,
        id: record.id,
        vni: record.vni,
        mtu: mtuOf(record, view, holders, self.underlay.v4 ? 4 : 6),
        internal: record.internal,
        encrypted: record.encrypted,
        mode: record.mode,
        subnets: record.subnets.map(({ cidr }) => formatCidr(cidr)),
        blocks: keeper.blocksOf(record.name).map(({ record: block }) => formatCidr(block.cidr)),
        tunnels: tunnels.filter(({ network }) => network === record.name).map(({ name }) => name),
        state: record.state,
      };
    });
    networks.replace(this.#networks);
  }

  /** Of blocks that were given back: the routes that came with them would lead to nobody here. */
  #dropGateways(): void {
    const { namespace, view, keeper, networks, log } = this.#options;
    for (const { record } of view.networks.values()) {
      if (record.mode !== "l3") continue;
      const own = keeper.blocksOf(record.name).map(({ record: block }) => block.cidr);
      const changes = removeStaleGateways(
        namespace,
        record,
        own,
        () => networks.usage(record.name, own).strays,
      );
      if (changes.length > 0) log.info("changed the kernel", { changes, count: changes.length });
    }
  }

  /** For runtimes: a conflist for each network. And no bridge of one that has gone. */
  #keepNetworks(): void {
    const { namespace, confDirectory, settings, view, log } = this.#options;
    const records = [...view.networks.values()].map(({ record }) => record);
    removeStaleBridges(
      namespace,
      records.map(({ vni }) => vni),
    );
    const done = keepConflists(confDirectory, records, settings.uuid);
    if (done.length > 0) log.info("changed the networks of this host", { done });
  }

  #note(error: unknown): void {
    const { problems, log } = this.#options;
    const message = messageOf(error);
    if (problems.get("rules") !== message) log.warn("overlay: rules", { error: message });
    problems.set("rules", message);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
