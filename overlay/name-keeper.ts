import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, Step } from "#engine/engine.ts";
import { sha256Hex } from "#machine/sha256.ts";
import type { Keys } from "./keys.ts";
import type { ContainerNames, ForeignName, LocalNames, NameExchange } from "./name-exchange.ts";
import { writeOwnEntries } from "./own-entries.ts";
import { formatRecord, readName } from "./record.ts";
import { Recurrent } from "./recurrent.ts";
import type { ClusterView, KnownNetwork } from "./view.ts";

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

/**
 * Writes what this host's containers are called into the engine, for networks whose names reach over all hosts, and
 * hands the resolver those of the other hosts. No ADD and no DEL waits for it. Names are no more leased than addresses
 * are: those of a host that is away stay, as its containers may be well; they go with `cluster host rm`, and the host
 * itself puts them right when it is back.
 */
export class NameKeeper {
  readonly #options: NameKeeperOptions;
  readonly #publishing: Recurrent;
  /** What the resolver was told, by key: the text of the record, which the view has as well. */
  readonly #told = new Map<string, string>();
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
    options.exchange.begin(() =>
      [...this.#told].flatMap(([key, value]) => {
        const names = tryRead(key, value);
        return names ? [{ ...nameIn(key), ...names }] : [];
      }),
    );
  }

  /** Brings what the engine has of this host's names to what they are. */
  publish(): void {
    this.#publishing.request();
  }

  /** Brings what the resolver knows of the other hosts' names to what the engine has. */
  learn(): void {
    const { view, exchange, hostId, keys } = this.#options;
    const put: (ForeignName & ContainerNames)[] = [];
    const present = new Set<string>();
    for (const { record } of this.#shared()) {
      const own = keys.namesOn(record.name, hostId);
      for (const [key, { value }] of view.namesOf(record.name)) {
        if (key.startsWith(own)) continue;
        present.add(key);
        if (this.#told.get(key) === value) continue;
        const names = tryRead(key, value);
        if (!names) continue;
        this.#told.set(key, value);
        put.push({ ...nameIn(key), ...names });
      }
    }
    const gone: ForeignName[] = [];
    for (const key of this.#told.keys()) {
      if (present.has(key)) continue;
      this.#told.delete(key);
      gone.push(nameIn(key));
    }
    if (put.length + gone.length > 0) exchange.change(put, gone);
  }

  /** For a host that leaves: nobody asks it for the others' names any more. */
  forget(): void {
    const gone = [...this.#told.keys()].map(nameIn);
    this.#told.clear();
    if (gone.length > 0) this.#options.exchange.change([], gone);
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    await this.#publishing.close();
  }

  /** Networks whose names reach over all hosts, and in which this host takes part: the others' it need not know. */
  #shared(): readonly KnownNetwork[] {
    const { view, hostId } = this.#options;
    const own = new Set(
      [...view.blocks.values()].flatMap(({ network, record }) => (record.host === hostId ? [network] : [])),
    );
    return [...view.networks.values()].filter(
      ({ record }) => record.names === "cluster" && own.has(record.name),
    );
  }

  async #publish(): Promise<void> {
    const { engine, view, hostId, keys, exchange, fence } = this.#options;
    for (const network of view.networks.values()) {
      if (network.record.names !== "cluster") continue;
      const { name } = network.record;
      const prefix = keys.namesOn(name, hostId);
      const wanted = new Map(exchange.local(name).map((each) => [prefix + idOf(each), textOf(each)]));
      const stored = new Map([...view.namesOf(name)].filter(([key]) => key.startsWith(prefix)));
      if (!(await writeOwnEntries({ engine, view, fence }, network, stored, wanted))) return;
    }
  }
}

function idOf({ containerId, ifName }: LocalNames): string {
  return sha256Hex(`${containerId}\0${ifName}`).slice(0, 26);
}

/** Of a key `…/name/NETWORK/HOST/ATTACHMENT`. */
function nameIn(key: string): ForeignName {
  const [network = "", host = "", attachment = ""] = key.split("/").slice(-3);
  return { network, id: `${host}:${attachment}` };
}

function textOf({ names, addresses, domain }: LocalNames): string {
  return formatRecord({ v: 1, names, addresses, ...(domain === undefined ? {} : { domain }) });
}

/** @returns undefined for one that can't be read: what was known of it before stays */
function tryRead(key: string, value: string): ContainerNames | undefined {
  try {
    const { names, addresses, domain } = readName(key, value);
    return { names, addresses, ...(domain === undefined ? {} : { domain }) };
  } catch {
    return undefined;
  }
}
