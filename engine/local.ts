import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeDurably } from "#machine/durable-file.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import type {
  Change,
  Changes,
  Engine,
  EngineStatus,
  Entry,
  Lease,
  Outcome,
  Snapshot,
  Step,
} from "./engine.ts";
import { EngineError } from "./error.ts";
import { holds, keyOf } from "./guard.ts";
import { History } from "./history.ts";

/** Lines of the file beyond the living entries, after which it is written anew. */
const spareLines = 1000;

/** One line of the file: what one commit changed. */
interface Line {
  readonly revision: number;
  readonly put?: Readonly<Record<string, string>>;
  readonly delete?: readonly string[];
  /** Which of `put` go with a lease, and so with the process. */
  readonly leased?: readonly string[];
}

/**
 * The engine of a host that is alone: everything in memory, and each commit a line of a file, synced before it is
 * answered. One process at a time may have a directory open; netd's lock sees to it.
 */
export class LocalEngine implements Engine {
  readonly #path: string;
  readonly #entries = new Map<string, Entry>();
  /** Keys that go with a lease; leases end with the process. */
  readonly #leases = new Map<string, Set<string>>();
  #file: FileHandle | undefined;
  #lines = 0;
  #revision = 1;
  #history = new History(2);
  /** The last commit: they happen one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #nextLease = 1;
  readonly #closing = new AbortController();

  private constructor(path: string) {
    this.#path = path;
  }

  /** @throws {IoError} also for a file that is damaged anywhere but in its last line */
  static async open(directory: string): Promise<LocalEngine> {
    makeDirectory(directory, 0o700);
    const engine = new LocalEngine(join(directory, "engine.jsonl"));
    await engine.#load();
    return engine;
  }

  async #load(): Promise<void> {
    const text = await readIfThere(this.#path);
    const lines = text.split("\n");
    // Behind the last newline stands nothing, or what a crash has left of a commit that was never answered.
    const rest = lines.pop();
    const leased = new Set<string>();
    for (const [index, line] of lines.entries()) this.#replay(line, index + 1, leased);
    for (const key of leased) this.#entries.delete(key);
    this.#history = new History(this.#revision + 1);
    this.#lines = lines.length;
    if (rest || leased.size > 0 || this.#lines > this.#entries.size + spareLines) await this.#rewrite();
    else this.#file = await this.#openToAppend();
  }

  #replay(text: string, number: number, leased: Set<string>): void {
    const line = parseLine(text);
    if (!line) throw new IoError("read", this.#path, new Error(`line ${number} is damaged`));
    this.#revision = line.revision;
    for (const [key, value] of Object.entries(line.put ?? {})) {
      this.#entries.set(key, { key, value, revision: line.revision });
      leased.delete(key);
    }
    for (const key of line.leased ?? []) leased.add(key);
    for (const key of line.delete ?? []) this.#entries.delete(key);
  }

  async #openToAppend(): Promise<FileHandle> {
    try {
      return await open(this.#path, "a", 0o600);
    } catch (cause) {
      throw new IoError("open", this.#path, cause);
    }
  }

  /** The living entries alone, each at its revision; the file is the old one or the new one. */
  async #rewrite(): Promise<void> {
    const byRevision = [...this.#entries.values()].sort((a, b) => a.revision - b.revision);
    const lines: Line[] = byRevision.map(({ key, value, revision }) => ({ revision, put: { [key]: value } }));
    lines.push({ revision: this.#revision });
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    await writeDurably(this.#path, text, { mode: 0o600, directoryMode: 0o700 });
    await this.#file?.close();
    this.#file = await this.#openToAppend();
    this.#lines = lines.length;
  }

  async commit(steps: readonly Step[]): Promise<Outcome> {
    const turn = this.#last.then(() => this.#commit(steps));
    this.#last = turn.catch(() => undefined);
    return await turn;
  }

  async #commit(steps: readonly Step[]): Promise<Outcome> {
    const isEmpty = (prefix: string) => !this.#keys(prefix).next().value;
    if (!steps.every((step) => holds(step, this.#entries, isEmpty))) {
      const named = steps.map(keyOf).flatMap((key) => this.#entries.get(key ?? "") ?? []);
      return {
        committed: false,
        revision: this.#revision,
        found: new Map(named.map((entry) => [entry.key, entry])),
      };
    }
    const put = new Map<string, string>();
    const gone = new Set<string>();
    for (const step of steps) {
      if (step.kind === "create" || step.kind === "replace" || step.kind === "put")
        put.set(step.key, step.value);
      if (step.kind === "remove" || (step.kind === "clear" && this.#entries.has(step.key)))
        gone.add(step.key);
    }
    if (put.size + gone.size === 0) return { committed: true, revision: this.#revision };
    const leased = steps.flatMap((step) =>
      (step.kind === "create" || step.kind === "replace") && step.lease
        ? [[step.key, step.lease.id] as const]
        : [],
    );
    for (const [key, id] of leased)
      if (!this.#leases.has(id)) throw new EngineError("invalid", `Cannot write ${key}: its lease has ended`);
    await this.#write({ put, gone, leased: leased.map(([key]) => key) });
    for (const keys of this.#leases.values()) for (const key of [...put.keys(), ...gone]) keys.delete(key);
    for (const [key, id] of leased) this.#leases.get(id)?.add(key);
    return { committed: true, revision: this.#revision };
  }

  async #write({ put, gone, leased }: Written): Promise<void> {
    const revision = this.#revision + 1;
    const line: Line = {
      revision,
      ...(put.size > 0 ? { put: Object.fromEntries(put) } : {}),
      ...(gone.size > 0 ? { delete: [...gone] } : {}),
      ...(leased.length > 0 ? { leased } : {}),
    };
    await this.#append(`${JSON.stringify(line)}\n`);
    this.#revision = revision;
    const changes: Change[] = [];
    for (const [key, value] of put) {
      const entry = { key, value, revision };
      this.#entries.set(key, entry);
      changes.push({ kind: "put", entry });
    }
    for (const key of gone) {
      this.#entries.delete(key);
      changes.push({ kind: "delete", key, revision });
    }
    this.#history.add({ revision, changes });
    if (++this.#lines > this.#entries.size + spareLines) await this.#rewrite();
  }

  async #append(text: string): Promise<void> {
    const file = this.#file;
    if (!file) throw new IoError("write", this.#path, new Error("it is closed"));
    const { size } = await file.stat();
    try {
      await file.appendFile(text);
      await file.datasync();
    } catch (cause) {
      // Half a line in the middle would be damage; at the end it is what a crash leaves.
      await file.truncate(size).catch(() => undefined);
      throw new IoError("write", this.#path, cause);
    }
  }

  *#keys(prefix: string): Generator<string> {
    for (const key of this.#entries.keys()) if (key.startsWith(prefix)) yield key;
  }

  read(key: string): Promise<Entry | undefined> {
    return Promise.resolve(this.#entries.get(key));
  }

  list(prefix: string): Promise<Snapshot> {
    const entries = [...this.#keys(prefix)].sort().flatMap((key) => this.#entries.get(key) ?? []);
    return Promise.resolve({ revision: this.#revision, entries });
  }

  async *listInParts(prefix: string): AsyncGenerator<Snapshot, undefined> {
    yield await this.list(prefix);
    return undefined;
  }

  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<Changes> {
    return this.#history.watch(prefix, from, AbortSignal.any([signal, this.#closing.signal]));
  }

  grantLease(ttlSeconds: number): Promise<Lease> {
    const id = String(this.#nextLease++);
    this.#leases.set(id, new Set());
    return Promise.resolve({ id, ttlSeconds });
  }

  keepAlive(lease: Lease): Promise<boolean> {
    return Promise.resolve(this.#leases.has(lease.id));
  }

  async revokeLease(lease: Lease): Promise<void> {
    const keys = this.#leases.get(lease.id) ?? new Set();
    this.#leases.delete(lease.id);
    if (keys.size > 0) await this.commit([...keys].map((key) => ({ kind: "clear", key })));
  }

  reconnect(): void {
    // There is no connection.
  }

  status(): Promise<EngineStatus> {
    return Promise.resolve({ problems: [], isReadOnly: false, revision: this.#revision });
  }

  async close(): Promise<void> {
    await this.#last;
    for (const id of this.#leases.keys()) await this.revokeLease({ id, ttlSeconds: 0 });
    this.#closing.abort();
    this.#history.wake();
    await this.#file?.close();
    this.#file = undefined;
  }
}

interface Written {
  readonly put: ReadonlyMap<string, string>;
  readonly gone: ReadonlySet<string>;
  readonly leased: readonly string[];
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return "";
    throw new IoError("read", path, error);
  }
}

function parseLine(text: string): Line | undefined {
  try {
    const line = JSON.parse(text) as Partial<Line>;
    return typeof line === "object" && Number.isSafeInteger(line.revision) ? (line as Line) : undefined;
  } catch {
    return undefined;
  }
}
