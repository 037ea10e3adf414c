import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { readLink } from "#kernel/link.ts";
import { readListeners } from "#kernel/listener.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Log } from "#machine/log.ts";
import { encryptionName } from "#overlay/identity.ts";
import type { HostRecord } from "#overlay/record.ts";
import { type End, ensureEnd, removeEnd, wireguardOverhead } from "./end.ts";
import { newPrivateKey, publicKeyOf } from "./key.ts";
import { KeyFile, type OwnKey, type Slot } from "./key-file.ts";
import { nextStep, type RotationState, waitedFor } from "./rotation.ts";
import { startWireguardGo } from "./wireguard-go.ts";

/** The first UDP port that is tried; each key has its own. */
const firstPort = 51842;
const rotationLookMs = 1500;
/** While a key is replaced: hands are to be shaken though nobody has anything to send. */
const rotationKeepalive = 5;

export interface EncryptionOptions {
  /** The host's, in which this process is. */
  readonly namespace: NetworkNamespace;
  /** The overlay's. */
  readonly directory: string;
  readonly hostId: string;
  readonly log: Log;
  /** What an operator has to know, by what it is about. */
  readonly problems: Map<string, string>;
  /** A process has been started that must outlive this one. */
  readonly adopt: (pid: number) => Promise<void>;
  /** Called when the ends, or whom they have shaken hands with, are not as before. */
  readonly changed: () => void;
}

export interface EncryptionWants {
  readonly self: HostRecord;
  readonly others: readonly HostRecord[];
  /** Ids of the hosts that have addresses in encrypted networks; undefined where there is no such network. */
  readonly users: ReadonlySet<string> | undefined;
  /** False before it was heard of the cluster since the start: what is not wanted may not be known yet. */
  readonly mayRemove: boolean;
}

/**
 * The encryption of this host: its keys, and a WireGuard device for each of which all other hosts are peers. Nothing but
 * VXLAN of encrypted networks goes by it, and that by nothing else: its addresses are link-local, so that without the
 * device there is no way at all.
 */
export class Encryption {
  readonly #options: EncryptionOptions;
  readonly #file: KeyFile;
  readonly #told = new Map<string, string>();
  #keys: readonly OwnKey[] | undefined;
  #ends: readonly End[] = [];
  #hasLooked = false;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #signature = "";
  #rotatingSinceMs: number | undefined;
  /** Devices for whose packets there are tunnels and rules. */
  #armed: ReadonlySet<string> = new Set();
  #quiet = { received: -1n, looks: 0 };

  constructor(options: EncryptionOptions) {
    this.#options = options;
    this.#file = new KeyFile(options.directory);
  }

  /** Oldest first. */
  get ends(): readonly End[] {
    return this.#ends;
  }

  /** False until it is known what there is: nothing may be taken down for the lack of it. */
  get hasLooked(): boolean {
    return this.#hasLooked;
  }

  /** For the host's record: what the others have to know. Undefined where there is none to tell, or not yet. */
  get published(): HostRecord["wireguard"] {
    const keys = this.#keys?.filter(({ isRetired }) => !isRetired) ?? [];
    if (keys.length === 0) return undefined;
    return { keys: keys.map(({ privateKey, port }) => ({ publicKey: publicKeyOf(privateKey), port })) };
  }

  /**
   * Tunnels and rules are there for what comes by these devices. Before that they get no peer, so that nobody sends by
   * them what would be lost, or comes by without a filter.
   */
  arm(names: readonly string[]): void {
    const isNews = names.some((name) => !this.#armed.has(name));
    this.#armed = new Set(names);
    if (isNews) this.#options.changed();
  }

  /** One look; one at a time, since a look that comes meanwhile is made up for by the next one. */
  keep(wants: EncryptionWants): void {
    if (this.#running) return;
    const { problems, log, changed } = this.#options;
    this.#running = this.#look(wants)
      .catch((error: unknown) => {
        const message = `Encrypted networks: ${error instanceof Error ? error.message : String(error)}`;
        if (problems.get("encryption") !== message) log.warn("overlay: encryption", { error: message });
        problems.set("encryption", message);
      })
      .finally(() => {
        this.#running = undefined;
        const signature = JSON.stringify(
          this.#ends.map(({ name, ifindex, handshakes }) => [
            name,
            ifindex,
            [...handshakes].flatMap(([key, at]) => (at > 0 ? [key] : [])),
          ]),
        );
        const isNews = signature !== this.#signature || !this.#hasLooked;
        this.#signature = signature;
        this.#hasLooked = true;
        if (isNews) changed();
        this.#lookAgain(wants);
      });
  }

  async settle(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#running;
    clearTimeout(this.#timer);
  }

  /** While a key is replaced, here or elsewhere: nobody tells when hands are shaken. */
  #lookAgain({ others }: EncryptionWants): void {
    const isRotating = [this.published, ...others.map(({ wireguard }) => wireguard)].some(
      (keys) => (keys?.keys.length ?? 0) > 1,
    );
    clearTimeout(this.#timer);
    if (isRotating || (this.#keys?.length ?? 0) > 1)
      this.#timer = setTimeout(this.#options.changed, rotationLookMs).unref();
  }

  /** For a host that leaves: the devices go, and the keys. */
  async clear(): Promise<void> {
    await this.settle();
    for (const slot of ["a", "b"] as const) this.#remove(slot);
    await this.#file.remove();
    this.#keys = [];
    this.#ends = [];
  }

  async #look(wants: EncryptionWants): Promise<void> {
    const { namespace, problems } = this.#options;
    this.#keys ??= this.#file.read();
    if (wants.users && this.#keys.length === 0) await this.#addKey("a");
    const isUsed = wants.users?.has(wants.self.id) === true;
    if (wants.users) await this.#rotateOnDemand();
    const failures: string[] = [];
    const ends: End[] = [];
    for (const key of isUsed ? this.#keys : []) {
      try {
        ends.push(await this.#ensure(key, wants));
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
        // As it was, unless it is gone: what it does goes on without being asked.
        const before = this.#ends.find(({ slot }) => slot === key.slot);
        if (before && readLink(namespace, before.ifindex)?.name === before.name) ends.push(before);
      }
    }
    this.#ends = ends;
    await this.#goOn(wants, isUsed);
    const kept = new Set(isUsed ? this.#keys.map(({ slot }) => slot) : []);
    const gone = (["a", "b"] as const).filter((slot) => wants.mayRemove && !kept.has(slot));
    // Before its device goes: nobody is to make a tunnel anew that has gone with it.
    this.#ends = ends.filter(({ slot }) => !gone.includes(slot));
    for (const slot of gone) this.#remove(slot);
    if (failures.length > 0) throw new Error(failures.join("; "));
    problems.delete("encryption");
  }

  async #ensure(key: OwnKey, { self, others }: EncryptionWants): Promise<End> {
    const { namespace, hostId, directory, log, adopt, changed } = this.#options;
    const isRotating = this.#keys?.length === 2 && !key.isRetired && this.#keys[1]?.slot === key.slot;
    const peers = others.flatMap((host) => {
      const ip =
        self.underlay.v4 && host.underlay.v4 ? host.underlay.v4 : self.underlay.v6 && host.underlay.v6;
      const keys = host.wireguard?.keys ?? [];
      return ip ? keys.map(({ publicKey, port }) => ({ publicKey, endpoint: { ip, port } })) : [];
    });
    const name = encryptionName(hostId, key.slot);
    // A device that is there anew has no rules any more than it has peers.
    const isNew =
      this.#ends.find(({ slot }) => slot === key.slot)?.ifindex !== readLink(namespace, name)?.ifindex;
    return await ensureEnd(
      {
        name,
        key,
        mtu: self.mtu - wireguardOverhead[self.underlay.v4 ? 4 : 6],
        peers: isNew || !this.#armed.has(name) ? undefined : peers,
        keepalive: isRotating ? rotationKeepalive : 0,
      },
      {
        namespace,
        told: this.#told,
        startUserspace: async (device) =>
          await startWireguardGo({ device, directory, adopt, ended: changed }),
        changed: (words) => log.info("changed the encryption", { words }),
      },
    );
  }

  /** Another key where one is asked for, unless the last time has not ended yet. */
  async #rotateOnDemand(): Promise<void> {
    const keys = this.#keys ?? [];
    const [key] = keys;
    if (!key || keys.length > 1 || !existsSync(this.#file.wishPath)) return;
    await this.#addKey(key.slot === "a" ? "b" : "a");
    await rm(this.#file.wishPath, { force: true });
  }

  async #addKey(slot: Slot): Promise<void> {
    const keys = this.#keys ?? [];
    const key = { slot, privateKey: newPrivateKey(), port: this.#freePort(keys), isRetired: false };
    await this.#write([...keys, key], "made a key");
  }

  #freePort(keys: readonly OwnKey[]): number {
    const taken = new Set([
      ...readListeners(this.#options.namespace, ["udp"]).map(({ port }) => port),
      ...keys.map(({ port }) => port),
    ]);
    let port = firstPort;
    while (taken.has(port)) port++;
    return port;
  }

  async #write(keys: readonly OwnKey[], words: string): Promise<void> {
    await this.#file.write(keys);
    this.#keys = keys;
    this.#options.log.info("encryption keys", { words, ports: keys.map(({ port }) => port) });
  }

  /** The next step of a change of keys, if one is under way. */
  async #goOn({ others, users }: EncryptionWants, isUsed: boolean): Promise<void> {
    const { problems } = this.#options;
    const keys = this.#keys ?? [];
    if (keys.length < 2) {
      this.#rotatingSinceMs = undefined;
      this.#quiet = { received: -1n, looks: 0 };
      problems.delete("rotation");
      return;
    }
    this.#rotatingSinceMs ??= performance.now();
    const received = this.#ends.find(({ slot }) => slot === keys[0]?.slot)?.received ?? 0n;
    this.#quiet = { received, looks: received === this.#quiet.received ? this.#quiet.looks + 1 : 0 };
    const state: RotationState = {
      keys,
      ends: this.#ends,
      peers: !isUsed
        ? []
        : others
            .filter(({ id, wireguard }) => users?.has(id) === true && wireguard)
            .map(({ name, wireguard }) => ({
              name,
              keys: wireguard?.keys.map(({ publicKey }) => publicKey) ?? [],
            })),
      sinceMs: performance.now() - this.#rotatingSinceMs,
      nowMs: Date.now(),
      quietLooks: this.#quiet.looks,
    };
    const step = nextStep(state);
    if (step) {
      await this.#write(step.keys, step.words);
      problems.delete("rotation");
    } else if (keys[0]?.isRetired !== true && state.sinceMs > 600_000) {
      const names = waitedFor(state).map(({ name }) => name);
      problems.set(
        "rotation",
        `The new encryption key is not in use yet: ${names.join(", ")} does not have it`,
      );
    }
  }

  #remove(slot: Slot): void {
    const { namespace, hostId, log } = this.#options;
    const name = encryptionName(hostId, slot);
    if (removeEnd(namespace, name)) log.info("changed the encryption", { words: `remove ${name}` });
  }
}
