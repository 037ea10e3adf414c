import {
  closeSync,
  constants,
  type Dirent,
  fsync,
  fsyncSync,
  opendirSync,
  openSync,
  readdirSync,
  readFileSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { BlockingCall } from "#machine/blocking-call.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { isRunning, type ProcessIdentity, readProcessIdentity } from "#machine/process-identity.ts";
import { Trash } from "#machine/trash.ts";
import { native } from "#native/addon.ts";
import type {
  AttachmentKey,
  BeginOptions,
  DatedRecord,
  IntactRecord,
  Intent,
  JournalRecord,
  Json,
  RecordDate,
} from "./record.ts";
import { decodeRecord, encodeFirstLine, encodeLaterLine, type LaterLine } from "./record-lines.ts";
import { isHashed, parseRecordName, type RecordWords, recordName } from "./record-name.ts";

const fsyncAsync = promisify(fsync);

type HostNamespace = NonNullable<IntactRecord["hostNamespace"]>;

/** No network's name begins with a dot. */
const trashName = ".trash";

/** The kernel's clock for files stands still between two ticks, 10 ms at most; the rest is caution. */
const clockDoubtMs = 1000;

/**
 * Write-ahead records on disk, one file per (network, containerId, ifName, plugin) below `<directory>/<network>/`: what
 * an ADD is about to make, written before it makes it. DEL, GC and the start of a service remove by them
 * what is left, with neither the namespace nor the runtime's memory. Safe to use by several processes at once; two must
 * not work on one attachment (`attachment-lock.ts`).
 *
 * Nothing is synced but what is asked to be: kernel objects do not survive a power loss either, and the page cache
 * survives the death of the process (docs/decisions/0006-what-is-synced.md).
 * All methods throw `IoError` where the disk refuses.
 */
export class Journal {
  readonly #directory: string;
  readonly #bootId: string;
  readonly #hostNamespace: HostNamespace | undefined;
  readonly #trash: Trash;
  readonly #syncing = new BlockingCall();
  #writer: ProcessIdentity | undefined;

  /**
   * @param options.directory made on first use: `<state>/journal`
   * @param options.hostNamespace where the host's side of attachments is, so that another host with the same directory
   *   leaves them alone
   */
  constructor(options: {
    readonly directory: string;
    readonly bootId: string;
    readonly hostNamespace?: HostNamespace;
  }) {
    this.#directory = options.directory;
    this.#bootId = options.bootId;
    this.#hostNamespace = options.hostNamespace;
    this.#trash = new Trash(`${options.directory}/${trashName}`);
  }

  /**
   * Records what is about to be made. When it returns, the record survives the death of this process, and unless
   * `durable` is false that of the machine.
   * @throws {IoError} EEXIST if this attachment has a record of this plugin: `read()` it, and clean up or refuse
   */
  async begin(intent: Intent, { durable = true }: BeginOptions = {}): Promise<JournalEntry> {
    const path = this.#path(intent.key, intent.plugin);
    this.#writer ??= readProcessIdentity("self") ?? { pid: 0, startTicks: 0 };
    const text = encodeFirstLine({
      ...intent,
      bootId: this.#bootId,
      writer: this.#writer,
      hostNamespace: this.#hostNamespace,
      createdAtMs: Date.now(),
    });
    let made = false;
    try {
      const fd = this.#createFile(path, durable);
      made = true;
      crashPoint("journal-file-made");
      try {
        writeFileSync(fd, text);
        crashPoint("journal-intent-written");
        // Journalling file systems put the new directory entry on disk with it.
        if (durable) {
          await this.#syncing.run(
            () => fsyncSync(fd),
            () => fsyncAsync(fd),
          );
        }
      } finally {
        closeSync(fd);
      }
    } catch (cause) {
      // A record that may not be on disk would be taken for one that was followed by side effects.
      if (made) removeQuietly(path);
      throw new IoError("write journal record", path, cause);
    }
    crashPoint("journal-begun");
    return new JournalEntry(this, intent.key, intent.plugin, path);
  }

  /** The record of one attachment, "torn" if it can't be read. */
  read(key: AttachmentKey, plugin: string): JournalRecord | undefined {
    const name = recordName(key, plugin);
    return this.#readFile(key.network, name, {
      containerId: key.containerId,
      ifName: key.ifName,
      plugin,
    });
  }

  /**
   * Says that a DEL begins. Where it does not end, the start of a service knows that it has to, and a repeated ADD that
   * nothing of the first can be relied on. Nothing happens if there is no record, nor where there is no room for the
   * line: a DEL goes on without.
   */
  leave(key: AttachmentKey, plugin: string): void {
    try {
      appendLine(this.#path(key, plugin), { leaving: true });
    } catch {
      return;
    }
    crashPoint("journal-leaving");
  }

  /**
   * Takes the record away: from then on it exists for nobody. Nothing happens if there is none. The file's blocks are
   * freed on a thread of the pool, since that takes a hundred times as long.
   */
  remove(key: AttachmentKey, plugin: string): void {
    const path = this.#path(key, plugin);
    try {
      this.#trash.discard(path);
      crashPoint("journal-removed");
    } catch (cause) {
      throw new IoError("remove journal record", path, cause);
    }
  }

  /** All records, or those of one network, in no order. Files that are no records are passed over. */
  list(network?: string): JournalRecord[] {
    this.#trash.sweep();
    return [...this.each(network)];
  }

  /** The same one by one, each read when it is asked for: for whoever has other work to do in between. */
  *each(network?: string): Generator<JournalRecord, void> {
    for (const { read } of this.eachDated(network)) {
      const record = read();
      if (record) yield record;
    }
  }

  /** The same, each unread, with what tells later whether it is still the same. */
  *eachDated(network?: string): Generator<DatedRecord, void> {
    for (const each of network === undefined ? this.networks() : [network]) {
      for (const entry of this.#eachEntry(each)) {
        const words = entry.isFile() ? parseRecordName(entry.name) : undefined;
        if (!words) continue;
        const path = `${each}/${entry.name}`;
        // Before it is read: what is written in between makes it another one.
        const modifiedNs = native().modificationTime(`${this.#directory}/${path}`);
        // It may have gone since the directory was read.
        if (modifiedNs === undefined) continue;
        const date = { modifiedNs, readAtMs: Date.now() };
        yield { path, date, read: () => this.#readFile(each, entry.name, words) };
      }
    }
  }

  /**
   * True if nobody has written, removed or replaced the record since it was read: a tenth of the price of reading it
   * again. Where that can't be told, as it had been written just before, false.
   */
  isUnchanged(key: AttachmentKey, plugin: string, date: RecordDate): boolean {
    return isCertain(date) && native().modificationTime(this.#path(key, plugin)) === date.modifiedNs;
  }

  /** The records of one container, of one plugin, in all networks. Reads no other file. */
  listOfContainer(containerId: string, plugin: string): JournalRecord[] {
    return this.networks().flatMap((network) =>
      this.#entries(network).flatMap((entry) => {
        const words = entry.isFile() ? parseRecordName(entry.name) : undefined;
        if (words?.plugin !== plugin) return [];
        const { ifName } = words;
        // A long id is a hash in the name.
        if (recordName({ network, containerId, ifName }, plugin) !== entry.name) return [];
        return this.#readFile(network, entry.name, words) ?? [];
      }),
    );
  }

  /** The networks by which a container has an interface, whichever plugin says so. Reads no record, only their names. */
  networksOf(containerId: string, ifName: string): string[] {
    return this.networks().filter((network) => {
      for (const entry of this.#eachEntry(network)) {
        const words = entry.isFile() ? parseRecordName(entry.name) : undefined;
        if (words?.ifName !== ifName) continue;
        if (words.containerId === containerId) return true;
        // A long id is a hash in the name.
        const key = { network, containerId, ifName };
        if (isHashed(words) && recordName(key, words.plugin) === entry.name) return true;
      }
      return false;
    });
  }

  /** The records of one plugin in all networks, each read when it is asked for. Reads no other. */
  *eachOf(plugin: string): Generator<JournalRecord, void> {
    for (const network of this.networks()) {
      for (const entry of this.#eachEntry(network)) {
        const words = entry.isFile() ? parseRecordName(entry.name) : undefined;
        const record = words?.plugin === plugin ? this.#readFile(network, entry.name, words) : undefined;
        if (record) yield record;
      }
    }
  }

  /**
   * The record of a plugin whose attachment is meant. Reads no other, but for those whose container id is too long to
   * stand in the file's name.
   */
  find(plugin: string, isMeant: (key: AttachmentKey) => boolean): JournalRecord | undefined {
    for (const network of this.networks()) {
      for (const entry of this.#eachEntry(network)) {
        const words = entry.isFile() ? parseRecordName(entry.name) : undefined;
        if (words?.plugin !== plugin) continue;
        const { containerId, ifName } = words;
        if (!isHashed(words) && !isMeant({ network, containerId, ifName })) continue;
        const record = this.#readFile(network, entry.name, words);
        if (record && isMeant(record.key)) return record;
      }
    }
    return undefined;
  }

  /** The other attachments' records of one plugin in the same network, each read when it is asked for. */
  *eachOther(key: AttachmentKey, plugin: string): Generator<JournalRecord, void> {
    const own = recordName(key, plugin);
    for (const entry of this.#eachEntry(key.network)) {
      const words = entry.isFile() && entry.name !== own ? parseRecordName(entry.name) : undefined;
      const record = words?.plugin === plugin ? this.#readFile(key.network, entry.name, words) : undefined;
      if (record) yield record;
    }
  }

  /** True if there are more records than that. Reads none. */
  hasMoreThan(count: number): boolean {
    let found = 0;
    for (const network of this.networks()) {
      for (const entry of this.#eachEntry(network)) {
        if (entry.isFile() && ++found > count) return true;
      }
    }
    return false;
  }

  /** Networks that have or had records. */
  networks(): string[] {
    return this.#entries("")
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
      .map((entry) => entry.name);
  }

  /**
   * Records of ADDs that will never end: their writer is dead, or of another boot, or nobody knows it (torn). And of
   * DELs that have not ended, dead or not. What one of them is about may be in the middle of something: take the
   * attachment's lock and read it again before acting on it. Those of another host of this boot are left out: what was
   * made for them is in its namespace.
   */
  unfinished(): JournalRecord[] {
    return this.list().filter(
      (record) => record.phase !== "done" && !this.#isBeingWritten(record) && !this.#isElsewhere(record),
    );
  }

  #isElsewhere(record: JournalRecord): boolean {
    if (record.phase === "torn" || record.bootId !== this.#bootId) return false;
    const { hostNamespace: theirs } = record;
    const ours = this.#hostNamespace;
    return !!theirs && !!ours && (theirs.dev !== ours.dev || theirs.ino !== ours.ino);
  }

  #isBeingWritten(record: JournalRecord): boolean {
    return record.phase === "intent" && record.bootId === this.#bootId && isRunning(record.writer);
  }

  #path(key: AttachmentKey, plugin: string): string {
    return `${this.#directory}/${key.network}/${recordName(key, plugin)}`;
  }

  #createFile(path: string, durable: boolean): number {
    try {
      return openSync(path, "wx", 0o600);
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
    }
    const firstMade = makeDirectory(dirname(path), 0o700);
    const fd = openSync(path, "wx", 0o600);
    if (durable && firstMade !== undefined) syncParents(dirname(path), dirname(firstMade));
    return fd;
  }

  #readFile(network: string, name: string, words: RecordWords): JournalRecord | undefined {
    const path = `${this.#directory}/${network}/${name}`;
    const bytes = readIfThere(path);
    if (!bytes) return undefined;
    const record = decodeRecord(bytes);
    if (record && isNamed(record, network, name)) return record;
    const { containerId, ifName, plugin } = words;
    return { phase: "torn", key: { network, containerId, ifName }, plugin };
  }

  /** The same a few at a time, for whoever wants but the first. */
  *#eachEntry(network: string): Generator<Dirent, void> {
    const path = `${this.#directory}/${network}`;
    try {
      const directory = opendirSync(path);
      try {
        for (let entry = directory.readSync(); entry; entry = directory.readSync()) yield entry;
      } finally {
        directory.closeSync();
      }
    } catch (cause) {
      if (errorCode(cause) !== "ENOENT") throw new IoError("list journal directory", path, cause);
    }
  }

  #entries(network: string): Dirent[] {
    const path = `${this.#directory}/${network}`;
    try {
      return readdirSync(path, { withFileTypes: true });
    } catch (cause) {
      if (errorCode(cause) === "ENOENT") return [];
      throw new IoError("list journal directory", path, cause);
    }
  }
}

/** True if whatever is written to the record after it was read shows in its date. */
export function isCertain({ modifiedNs, readAtMs }: RecordDate): boolean {
  return readAtMs - Number(modifiedNs / 1_000_000n) >= clockDoubtMs;
}

function readIfThere(path: string): Buffer | undefined {
  try {
    // As a rule there is none, when an ADD looks.
    if (native().modificationTime(path) === undefined) return undefined;
    return readFileSync(path);
  } catch (cause) {
    if (errorCode(cause) === "ENOENT") return undefined;
    throw new IoError("read journal record", path, cause);
  }
}

/** The record that `begin()` made, while its ADD runs. */
export class JournalEntry {
  readonly key: AttachmentKey;
  readonly plugin: string;
  readonly #journal: Journal;
  readonly #path: string;

  constructor(journal: Journal, key: AttachmentKey, plugin: string, path: string) {
    this.#journal = journal;
    this.key = key;
    this.plugin = plugin;
    this.#path = path;
  }

  /** Replaces what was said to be made, before making it. */
  amend(made: Json): void {
    this.#append({ made });
    crashPoint("journal-amended");
  }

  /** The ADD has succeeded, with this result. */
  complete(result: Json): void {
    crashPoint("all-made");
    this.#append({ result });
    crashPoint("journal-completed");
  }

  /** The ADD has failed and everything is undone. */
  remove(): void {
    this.#journal.remove(this.key, this.plugin);
  }

  #append(line: LaterLine): void {
    try {
      appendLine(this.#path, line);
    } catch (cause) {
      throw new IoError("append to journal record", this.#path, cause);
    }
  }
}

function appendLine(path: string, line: LaterLine): void {
  // Without O_CREAT: a DEL that has won must not be followed by half a record.
  const fd = openSync(path, constants.O_WRONLY | constants.O_APPEND);
  try {
    writeFileSync(fd, encodeLaterLine(line));
  } finally {
    closeSync(fd);
  }
}

/** A copy under another name, or a file that only looks like a record, says nothing about what its name stands for. */
function isNamed(record: IntactRecord, network: string, name: string): boolean {
  return record.key.network === network && recordName(record.key, record.plugin) === name;
}

/** Syncs from the parent of `path` up to `top`, so that the new directories between them are on disk. Once per network. */
function syncParents(path: string, top: string): void {
  for (let each = dirname(path); ; each = dirname(each)) {
    const fd = openSync(each, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (each === top || each === dirname(each)) return;
  }
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // The error that brought us here is the one to report.
  }
}
