import { closeSync, constants, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Entry, Snapshot } from "#engine/engine.ts";
import { replaceFile } from "#machine/replace-file.ts";

/** Lines beyond twice what is there, after which the file is written anew. */
const spareLines = 1000;
/** Characters that are written at once. */
const pieceLength = 64 * 1024;

/** What is to be in the file. */
export interface Known {
  readonly revision: number;
  readonly size: number;
  entry(key: string): Entry | undefined;
  entries(): Iterable<Entry>;
}

/** A line of the file: an entry, a key that has gone, or how far all that stands before it goes. */
interface Line {
  readonly key?: string;
  readonly value?: string;
  readonly revision?: number;
  readonly gone?: string;
  /** What earlier versions had written, in a single line. */
  readonly entries?: readonly Entry[];
}

/**
 * Something that was known of the cluster last, on disk, for a start without the engine: a line for each entry, and
 * another one for each that has changed or gone since, so that a change costs no more the more there is.
 */
export class KnownFile {
  readonly #path: string;
  /** Keys that have changed since the last time it was written. */
  readonly #changed = new Set<string>();
  /** Undefined: this process has not written it yet, or what it has written is not whole. */
  #lines: number | undefined;
  #isChanged = false;

  /** @param directory the overlay's */
  constructor(directory: string, name: string) {
    this.#path = join(directory, name);
  }

  /** @returns undefined where there is none, or a damaged one: the engine is asked */
  load(): Snapshot | undefined {
    const entries = new Map<string, Entry>();
    const revision = this.read(
      (entry) => entries.set(entry.key, entry),
      (key) => entries.delete(key),
    );
    return revision === undefined ? undefined : { revision, entries: [...entries.values()] };
  }

  /**
   * The same for who does not want all of it at once.
   * @param put called for each entry, again for one that was changed
   * @returns the revision; undefined where there is no file, or a damaged one
   */
  read(put: (entry: Entry) => void, remove: (key: string) => void): number | undefined {
    let revision: number | undefined;
    try {
      for (const text of linesOf(readFileSync(this.#path))) {
        const line = JSON.parse(text) as Line;
        const { key, value, revision: at, gone } = line;
        if (gone !== undefined) remove(gone);
        else if (key !== undefined && value !== undefined && at !== undefined)
          put({ key, value, revision: at });
        else {
          revision = at;
          for (const entry of line.entries ?? []) put(entry);
        }
      }
    } catch {
      // No file, or the rest of a line that was not written to its end: what stands before it holds.
    }
    return typeof revision === "number" ? revision : undefined;
  }

  /** Says that an entry has come, changed or gone: `save` writes it. */
  touch(key: string): void {
    this.#isChanged = true;
    if (this.#lines !== undefined) this.#changed.add(key);
  }

  /** Brings the file to what is known, if that has changed. @throws Node's error */
  save(known: Known): void {
    if (!this.#isChanged) return;
    const { revision } = known;
    const before = this.#lines;
    // Until it is done, it may be half done.
    this.#lines = undefined;
    if (before === undefined || before + this.#changed.size > 2 * known.size + spareLines) {
      replaceFile(this.#path, pieces(all(known)), 0o600);
      this.#lines = known.size;
    } else {
      const lines = [...this.#changed].map((key): Line => known.entry(key) ?? { gone: key });
      this.#append([...lines, { revision }]);
      this.#lines = before + lines.length;
    }
    this.#changed.clear();
    this.#isChanged = false;
  }

  /** Not to a file that somebody has taken away: what is added would be all that there is in it. */
  #append(lines: readonly Line[]): void {
    const fd = openSync(this.#path, constants.O_WRONLY | constants.O_APPEND);
    try {
      for (const piece of pieces(lines)) writeFileSync(fd, piece);
    } finally {
      closeSync(fd);
    }
  }

  remove(): void {
    rmSync(this.#path, { force: true });
    this.#lines = undefined;
  }
}

function* all(known: Known): Generator<Line> {
  // First: who reads a file that ends too early knows how old it is.
  yield { revision: known.revision };
  yield* known.entries();
}

function* pieces(lines: Iterable<Line>): Generator<string> {
  let piece = "";
  for (const line of lines) {
    piece += `${JSON.stringify(line)}\n`;
    if (piece.length < pieceLength) continue;
    yield piece;
    piece = "";
  }
  if (piece !== "") yield piece;
}

function* linesOf(bytes: Buffer): Generator<string> {
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(10, start);
    const end = newline < 0 ? bytes.length : newline;
    yield bytes.toString("utf8", start, end);
    start = end + 1;
  }
}
