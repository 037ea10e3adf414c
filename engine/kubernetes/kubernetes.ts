import { setTimeout as sleep } from "node:timers/promises";
import type { Changes, Engine, EngineStatus, Entry, Lease, Outcome, Snapshot, Step } from "#engine/engine.ts";
import { CompactedError, EngineError } from "#engine/error.ts";
import { holds, keyOf } from "#engine/guard.ts";
import { wholeList } from "#engine/whole-list.ts";
import { ConnectionError, KubernetesApi, type Method, StatusError } from "./api.ts";
import { toEngineError, wordsOf } from "./failure-words.ts";
import { Leases } from "./leases.ts";
import {
  apiVersion,
  type EntryObject,
  entryObject,
  entryOf,
  isEntry,
  isOfWrite,
  type ListObject,
  leaseLabel,
  nameOf,
  revisionOf,
} from "./objects.ts";
import type { KubernetesSettings } from "./settings.ts";
import { watchEntries } from "./watch.ts";

/** Objects of one page of a list. */
const pageSize = 500;
/** A write without a guard meets others'. */
const putTries = 8;
/** How often a write whose answer was lost is looked for, and how long to wait between. */
const readBackTries = 4;
const readBackPauseMs = 250;

/** A write that others were faster with. */
class Refused extends Error {}

/**
 * The API server of a Kubernetes cluster as engine: each key is one object of kind Entry, and its resourceVersion what
 * a compare-and-swap compares. There are no transactions of several objects: guards are looked at before the writes, and
 * again after them where something was created, which is taken back if one of them no longer holds. So a block that was
 * claimed in a network just before that was removed, or by a session that was just followed by another one, is given
 * back by whoever claimed it.
 */
export class KubernetesEngine implements Engine {
  readonly #api: KubernetesApi;
  readonly #entries: string;
  readonly #leases: Leases;
  readonly #closing = new AbortController();

  /** Connects with the first call. @throws {EngineError} for settings that can't be right */
  constructor(settings: KubernetesSettings) {
    this.#api = new KubernetesApi(settings);
    this.#entries = `/apis/${apiVersion}/namespaces/${settings.namespace}/entries`;
    this.#leases = new Leases(this.#api, settings, this.#entries);
  }

  async commit(steps: readonly Step[]): Promise<Outcome> {
    return await inItsWords("write to", async () => {
      const before = await this.#look(steps);
      if (!before.allHold) return { committed: false, revision: before.revision, found: before.found };
      const done: { readonly step: Step; readonly entry: Entry }[] = [];
      const written = new Map<string, number>();
      try {
        for (const step of steps) {
          const entry = await this.#write(step, before.found);
          if (!entry) continue;
          done.push({ step, entry });
          written.set(entry.key, entry.revision);
        }
        const isCreating = done.some(({ step }) => step.kind === "create");
        if (isCreating && !(await this.#look(steps.filter(isGuard))).allHold) throw new Refused();
      } catch (error) {
        await this.#takeBack(done);
        if (!(error instanceof Refused)) throw error;
        const after = await this.#look(steps);
        return { committed: false, revision: after.revision, found: after.found };
      }
      const revision = Math.max(before.revision, ...written.values());
      return { committed: true, revision, written };
    });
  }

  async read(key: string): Promise<Entry | undefined> {
    return await inItsWords("read from", async () => await this.#read(key));
  }

  async list(prefix: string): Promise<Snapshot> {
    return await inItsWords("read from", async () => await this.#list(prefix));
  }

  async *listInParts(prefix: string): AsyncGenerator<Snapshot, undefined> {
    const parts = this.#listInParts(prefix);
    for (;;) {
      const part = await inItsWords("read from", async () => await parts.next());
      if (part.done) return undefined;
      yield part.value;
    }
  }

  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<Changes> {
    const either = AbortSignal.any([signal, this.#closing.signal]);
    return watchEntries(this.#api, this.#entries, { prefix, from, signal: either });
  }

  async grantLease(ttlSeconds: number): Promise<Lease> {
    return await inItsWords("get a lease from", async () => await this.#leases.grant(ttlSeconds));
  }

  async keepAlive(lease: Lease): Promise<boolean> {
    return await inItsWords("keep a lease of", async () => await this.#leases.renew(lease));
  }

  async revokeLease(lease: Lease): Promise<void> {
    await inItsWords("give back a lease of", async () => await this.#leases.end(lease.id));
  }

  reconnect(): void {
    this.#api.reconnect();
  }

  async status(): Promise<EngineStatus> {
    try {
      const { metadata } = (await this.#api.call(
        "GET",
        `${this.#entries}?limit=1`,
      )) as ListObject<EntryObject>;
      return { problems: [], isReadOnly: false, revision: revisionOf(metadata.resourceVersion) };
    } catch (error) {
      return { problems: [`the API server: ${wordsOf(error)}`], isReadOnly: true, revision: 0 };
    }
  }

  close(): Promise<void> {
    this.#closing.abort();
    this.#api.reconnect();
    return Promise.resolve();
  }

  /** All that steps name, and whether their guards hold. */
  async #look(steps: readonly Step[]) {
    const keys = [...new Set(steps.flatMap((step) => keyOf(step) ?? []))];
    const entries = await Promise.all(keys.map(async (key) => await this.#read(key)));
    const found = new Map(entries.flatMap((entry) => (entry ? [[entry.key, entry] as const] : [])));
    const taken = new Set<string>();
    for (const step of steps)
      if (step.kind === "empty" && (await this.#list(step.prefix)).entries.length > 0) taken.add(step.prefix);
    const allHold = steps.every((step) => holds(step, found, (prefix) => !taken.has(prefix)));
    return { found, allHold, revision: Math.max(0, ...[...found.values()].map(({ revision }) => revision)) };
  }

  /** @returns what is there now; undefined where nothing is @throws {Refused} */
  async #write(step: Step, found: ReadonlyMap<string, Entry>): Promise<Entry | undefined> {
    switch (step.kind) {
      case "create":
        return await this.#create(step.key, step.value, step.lease);
      case "replace":
        return await this.#replace(step.key, step.value, step.revision, step.lease);
      case "put":
        return await this.#put(step.key, step.value, found.get(step.key));
      case "remove":
        await this.#remove(step.key, step.revision);
        return undefined;
      case "clear":
        if (found.has(step.key)) await this.#remove(step.key, undefined);
        return undefined;
      case "unchanged":
      case "absent":
      case "empty":
        return undefined;
    }
  }

  async #create(key: string, value: string, lease?: Lease): Promise<Entry> {
    return await this.#settled("POST", this.#entries, entryObject(key, value, labelled(lease)));
  }

  async #replace(key: string, value: string, revision: number, lease?: Lease): Promise<Entry> {
    const object = entryObject(key, value, { resourceVersion: String(revision), ...labelled(lease) });
    return await this.#settled("PUT", this.#pathOf(key), object);
  }

  async #put(key: string, value: string, found: Entry | undefined): Promise<Entry> {
    let present = found;
    for (let attempt = 0; attempt < putTries; attempt++) {
      try {
        return present ? await this.#replace(key, value, present.revision) : await this.#create(key, value);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        present = await this.#read(key);
      }
    }
    throw new EngineError("unavailable", `Cannot write ${key}: others keep writing it`);
  }

  /** @throws {Refused} if it is there at another revision */
  async #remove(key: string, revision: number | undefined): Promise<void> {
    const options =
      revision === undefined ? undefined : { preconditions: { resourceVersion: String(revision) } };
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#call("DELETE", this.#pathOf(key), options);
        return;
      } catch (error) {
        const isLost = error instanceof ConnectionError && error.wasSent && attempt < readBackTries;
        if (!isLost && !(error instanceof Refused)) throw error;
        if (isLost) await sleep(readBackPauseMs * (1 + Math.random()));
        // Gone is what was wanted.
        if (!(await this.#read(key))) return;
        if (!isLost) throw error;
      }
    }
  }

  /** Sends a write, and where its answer was lost looks whether it was done. @throws {Refused} */
  async #settled(method: "POST" | "PUT", path: string, object: EntryObject): Promise<Entry> {
    const { key } = object.spec;
    let lost: ConnectionError | undefined;
    for (let attempt = 0; attempt < readBackTries; attempt++) {
      try {
        if (lost) {
          await sleep(readBackPauseMs * (1 + Math.random()));
          const present = await this.#get(key);
          if (present && isOfWrite(present, object)) return entryOf(present);
        }
        return entryOf((await this.#call(method, path, object)) as EntryObject);
      } catch (error) {
        if (!(error instanceof ConnectionError) || (!error.wasSent && !lost)) throw error;
        lost = error;
      }
    }
    throw new EngineError(
      "unknown",
      `Cannot tell whether a write of ${key} was done: ${lost?.message ?? ""}`,
    );
  }

  /** @throws {Refused} for what others were faster with */
  async #call(method: Method, path: string, body?: object): Promise<unknown> {
    try {
      return await this.#api.call(method, path, body);
    } catch (error) {
      if (error instanceof StatusError && (error.code === 409 || (method !== "POST" && error.isNotFound)))
        throw new Refused(error.message, { cause: error });
      throw error;
    }
  }

  async #takeBack(done: readonly { readonly step: Step; readonly entry: Entry }[]): Promise<void> {
    for (const { step, entry } of [...done].reverse())
      if (step.kind === "create") await this.#remove(entry.key, entry.revision).catch(() => undefined);
  }

  async #read(key: string): Promise<Entry | undefined> {
    const object = await this.#get(key);
    return object && entryOf(object);
  }

  async #get(key: string): Promise<EntryObject | undefined> {
    try {
      return (await this.#api.call("GET", this.#pathOf(key))) as EntryObject;
    } catch (error) {
      if (error instanceof StatusError && error.isNotFound) return undefined;
      throw error;
    }
  }

  async #list(prefix: string): Promise<Snapshot> {
    return await wholeList(() => this.#listInParts(prefix));
  }

  /** Pages are of one revision. @throws {CompactedError} the server has forgotten it meanwhile */
  async *#listInParts(prefix: string): AsyncGenerator<Snapshot, undefined> {
    let next: string | undefined = "";
    while (next !== undefined) {
      const query: string = `limit=${pageSize}${next === "" ? "" : `&continue=${encodeURIComponent(next)}`}`;
      const page = await this.#page(query);
      const revision = revisionOf(page.metadata.resourceVersion);
      const items = page.items.filter((item) => item.spec.key.startsWith(prefix) && isEntry(item));
      yield { revision, entries: items.map(entryOf) };
      next = page.metadata.continue || undefined;
    }
    return undefined;
  }

  async #page(query: string): Promise<ListObject<EntryObject>> {
    try {
      return (await this.#api.call("GET", `${this.#entries}?${query}`)) as ListObject<EntryObject>;
    } catch (error) {
      if (error instanceof StatusError && error.code === 410) throw new CompactedError(0);
      throw error;
    }
  }

  #pathOf(key: string): string {
    return `${this.#entries}/${nameOf(key)}`;
  }
}

function isGuard({ kind }: Step): boolean {
  return kind === "unchanged" || kind === "absent" || kind === "empty";
}

function labelled(lease: Lease | undefined) {
  return lease ? { labels: { [leaseLabel]: lease.id } } : {};
}

async function inItsWords<T>(action: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof EngineError || error instanceof CompactedError) throw error;
    throw toEngineError(action, error);
  }
}
