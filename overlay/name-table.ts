import type { Entry } from "#engine/engine.ts";
import { PackedMap } from "#machine/packed-map.ts";
import type { Keys } from "./keys.ts";

/** Entries that say names, as they are stored: there may be tens of thousands, and few are ever read. */
export class NameTable {
  readonly #prefix: string;
  /** By key without the prefix that all have; the value begins with the revision. */
  readonly #packed = new PackedMap();

  constructor(keys: Keys) {
    this.#prefix = keys.names;
  }

  get size(): number {
    return this.#packed.size;
  }

  /** Whether the key is one of a name. */
  covers(key: string): boolean {
    return key.startsWith(this.#prefix);
  }

  get(key: string): Entry | undefined {
    const text = this.#packed.get(this.#shorten(key));
    return text === undefined ? undefined : read(key, text);
  }

  /** Keys that the other does not have, or has otherwise. */
  *keysUnlike(other: NameTable): Generator<string, undefined> {
    for (const key of this.#packed.keysUnlike(other.#packed)) yield this.#prefix + key;
    return undefined;
  }

  /** @returns false if it was there just so */
  set({ key, value, revision }: Entry): boolean {
    const short = this.#shorten(key);
    const text = `${revision} ${value}`;
    if (this.#packed.get(short) === text) return false;
    this.#packed.set(short, text);
    return true;
  }

  /** @returns false if it was not there */
  delete(key: string): boolean {
    return this.#packed.delete(this.#shorten(key));
  }

  /** What comes or goes meanwhile may be among them or not. @param below of which keys; by default of all */
  *entries(below = this.#prefix): Generator<Entry, undefined> {
    const short = this.#shorten(below);
    for (const number of this.#packed.numbers()) {
      const key = this.#packed.keyAt(number);
      if (key.startsWith(short)) yield read(this.#prefix + key, this.#packed.valueAt(number));
    }
    return undefined;
  }

  #shorten(key: string): string {
    return key.slice(this.#prefix.length);
  }
}

function read(key: string, text: string): Entry {
  const space = text.indexOf(" ");
  return { key, value: text.slice(space + 1), revision: Number(text.slice(0, space)) };
}
