import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, Entry, Step } from "#engine/engine.ts";
import { parts } from "#machine/parts.ts";
import { sha256Hex } from "#machine/sha256.ts";
import type { Keys } from "./keys.ts";
import type { ContainerNames, ForeignName, LocalNames, NameExchange } from "./name-exchange.ts";
import { writeOwnEntries } from "./own-entries.ts";
import { formatRecord, readName } from "./record.ts";
import { Recurrent } from "./recurrent.ts";
import type { ClusterView } from "./view.ts";

/** Between two commits: what comes meanwhile goes with the next one. */
const commitPauseMs = 50;

export interface NameKeeperOptions {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly hostId: string;
  readonly view: ClusterView;
  readonly exchange: NameExchange;
  /** Of the session; undefined while there is none, or the engine is away or not believed. */
  readonly fence: () => Step | undefined;
  readonly note: (error: unknown) => void;
  readonly well: () => void;
}

/** So many names are told at once: there may be tens of thousands. */
const toldAtOnce = 500;

/**
 * Writes what this host's containers are called into the engine, for networks whose names reach over all hosts, and
 * hands the resolver those of the other hosts. No ADD and no DEL waits for it. Names are no more leased than addresses
 * are: those of a host that is away stay, as its containers may be well; they go with `cluster host rm`, and the host
 * itself puts them right when it is back.
 */
export class NameKeeper {
  readonly #options: NameKeeperOptions;
  readonly #publishing: Recurrent;
  /** Keys that the engine has of this host's own. */
  readonly #own = new Set<string>();
  /** Networks of which the resolver is told. */
  readonly #told = new Set<string>();
  /** Keys of other hosts in networks of `#told`, of which it has not been told what they are now. */
  readonly #untold = new Set<string>();
  readonly #unsubscribe: () => void;

  constructor(options: NameKeeperOptions) {
    this.#options = options;
    this.#publishing = new Recurrent(async () => {
      try {
        await this.#publish();
        options.well();
      } catch (error) {
        options.note(error);
      }
      await sleep(commitPauseMs);
    });
    this.#unsubscribe = options.exchange.onChange(() => this.publish());
    options.exchange.begin(() => this.#allTold());
  }

  /** Brings what the engine has of this host's names to what they are. */
  publish(): void {
    this.#publishing.request();
  }

  /** To be called with each key of a name that has come, changed or gone in the view. */
  note(key: string): void {
    const { view, hostId } = this.#options;
    const { network, host } = placeOf(key);
    if (host === hostId) {
      if (view.entry(key)) this.#own.add(key);
      else this.#own.delete(key);
      return;
    }
    if (!this.#told.has(network)) return;
    this.#untold.add(key);
    if (this.#untold.size >= toldAtOnce) this.#tellUntold();
  }

  /** Brings what the resolver knows of the other hosts' names to what the engine has. */
  learn(): void {
    const shared = this.#shared();
    this.#tellUntold();
    for (const network of this.#told) if (!shared.has(network)) this.#forget(network);
    for (const network of shared) {
      if (this.#told.has(network)) continue;
      this.#told.add(network);
      void this.#tell(network);
    }
  }

  /** For a host that leaves: nobody asks it for the others' names any more. */
  forget(): void {
    for (const network of this.#told) this.#forget(network);
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    await this.#publishing.close();
  }

  #tellUntold(): void {
    const { view, exchange } = this.#options;
    if (this.#untold.size === 0) return;
    const keys = [...this.#untold];
    this.#untold.clear();
    const entries = keys.flatMap((key) => view.entry(key) ?? []);
    const gone = keys.filter((key) => !view.entry(key)).map(nameIn);
    void exchange.change(named(entries), gone);
  }

  /** All that there is of a network. What changes meanwhile is told in between, and what is told later is not older. */
  async #tell(network: string): Promise<void> {
    const { exchange } = this.#options;
    for (const part of parts(this.#foreign(network), toldAtOnce)) {
      if (!this.#told.has(network)) return;
      await exchange.change(named(part), []);
    }
  }

  #forget(network: string): void {
    this.#told.delete(network);
    for (const part of parts(this.#foreign(network), toldAtOnce))
      void this.#options.exchange.change(
        [],
        part.map(({ key }) => nameIn(key)),
      );
  }

  *#allTold(): Generator<ForeignName & ContainerNames> {
    for (const network of this.#told) yield* named(this.#foreign(network));
  }

  /** Of the other hosts. */
  *#foreign(network: string): Generator<Entry> {
    const { view, hostId } = this.#options;
    for (const entry of view.namesOf(network)) if (placeOf(entry.key).host !== hostId) yield entry;
  }

  /** Networks whose names reach over all hosts, and in which this host takes part: the others' it need not know. */
  #shared(): ReadonlySet<string> {
    const { view, hostId } = this.#options;
    const shared = new Set<string>();
    for (const { network, record } of view.blocks.values())
      if (record.host === hostId && view.networks.get(network)?.record.names === "cluster")
        shared.add(network);
    return shared;
  }

  async #publish(): Promise<void> {
    const { engine, view, hostId, keys, exchange, fence } = this.#options;
    for (const network of view.networks.values()) {
      if (network.record.names !== "cluster") continue;
      const { name } = network.record;
      const prefix = keys.namesOn(name, hostId);
      const wanted = new Map(exchange.local(name).map((each) => [prefix + idOf(each), textOf(each)]));
      const own = [...this.#own].filter((key) => key.startsWith(prefix));
      const stored = new Map(own.flatMap((key) => view.entry(key) ?? []).map((entry) => [entry.key, entry]));
      if (!(await writeOwnEntries({ engine, view, fence }, network, stored, wanted))) return;
    }
  }
}

function idOf({ containerId, ifName }: LocalNames): string {
  return sha256Hex(`${containerId}\0${ifName}`).slice(0, 26);
}

/** Of a key `…/name/NETWORK/HOST/ATTACHMENT`. */
function placeOf(key: string): {
  readonly network: string;
  readonly host: string;
  readonly attachment: string;
} {
  const [network = "", host = "", attachment = ""] = key.split("/").slice(-3);
  return { network, host, attachment };
}

function nameIn(key: string): ForeignName {
  const { network, host, attachment } = placeOf(key);
  return { network, id: `${host}:${attachment}` };
}

/** Of one that can't be read nobody is told: what was known of it before stays. */
function* named(entries: Iterable<Entry>): Generator<ForeignName & ContainerNames> {
  for (const { key, value } of entries) {
    const names = tryRead(key, value);
    if (names) yield { ...nameIn(key), ...names };
  }
}

function textOf({ names, addresses, domain }: LocalNames): string {
  return formatRecord({ v: 1, names, addresses, ...(domain === undefined ? {} : { domain }) });
}

function tryRead(key: string, value: string): ContainerNames | undefined {
  try {
    const { names, addresses, domain } = readName(key, value);
    return { names, addresses, ...(domain === undefined ? {} : { domain }) };
  } catch {
    return undefined;
  }
}
