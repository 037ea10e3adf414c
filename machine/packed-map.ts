import { HashIndex, hashText } from "./hash-index.ts";

/** A chunk is a power of two, so that a place is a chunk's number and an offset in one integer. */
const offsetBits = 18;
const largestChunk = 1 << offsetBits;
const smallestChunk = 4096;

/** Before each record: its number, and the lengths of key and value in bytes, each four bytes. */
const headBytes = 12;

interface Chunk {
  readonly bytes: Buffer;
  used: number;
  /** Of `used`, what is still looked up. */
  live: number;
}

/** Where a record begins. */
interface Place {
  readonly bytes: Buffer;
  readonly at: number;
}

/**
 * Texts by text, as bytes outside of V8's heap: of tens of thousands of small ones of which few are ever read, objects
 * would take several times the memory, and time of each garbage collection. In no order.
 */
export class PackedMap {
  readonly #chunks: (Chunk | undefined)[] = [];
  /** The chunk that is being filled. */
  #open: Chunk | undefined;
  #openIndex = -1;
  /** Record's number → where it is; -1 for one that is free. */
  #places = new Int32Array(16).fill(-1);
  #count = 0;
  readonly #free: number[] = [];
  readonly #byKey = new HashIndex();

  get size(): number {
    return this.#byKey.size;
  }

  get(key: string): string | undefined {
    const number = this.numberOf(key);
    return number === undefined ? undefined : this.valueAt(number);
  }

  /** Of a record, for as long as its key is there. */
  numberOf(key: string): number | undefined {
    return this.#byKey.find(hashText(key), (number) => this.keyAt(number) === key);
  }

  keyAt(number: number): string {
    const { bytes, at } = this.#at(number);
    const start = at + headBytes;
    return bytes.toString("utf8", start, start + bytes.readUInt32LE(at + 4));
  }

  valueAt(number: number): string {
    const { bytes, at } = this.#at(number);
    const start = at + headBytes + bytes.readUInt32LE(at + 4);
    return bytes.toString("utf8", start, start + bytes.readUInt32LE(at + 8));
  }

  /** @returns the record's number, which it keeps when its value changes */
  set(key: string, value: string): number {
    const hash = hashText(key);
    const known = this.#byKey.find(hash, (number) => this.keyAt(number) === key);
    const number = known ?? this.#nextNumber();
    if (known === undefined) this.#byKey.add(hash, number);
    else this.#abandon(number);
    this.#write(number, key, value);
    return number;
  }

  /** @returns false if it was not there */
  delete(key: string): boolean {
    const number = this.numberOf(key);
    if (number === undefined) return false;
    this.#byKey.remove(hashText(key), number);
    this.#abandon(number);
    this.#places[number] = -1;
    this.#free.push(number);
    return true;
  }

  /** Keys that the other does not have, or has with another value. */
  keysUnlike(other: PackedMap): readonly string[] {
    const keys: string[] = [];
    this.#byKey.forEach((hash, number) => {
      const same = other.#byKey.find(hash, (its) => isSameRecord(this.#at(number), other.#at(its)));
      if (same === undefined) keys.push(this.keyAt(number));
    });
    return keys;
  }

  /** What comes or goes meanwhile may be among them or not. */
  *numbers(): Generator<number, undefined> {
    for (let number = 0; number < this.#count; number++) if ((this.#places[number] ?? -1) >= 0) yield number;
    return undefined;
  }

  #at(number: number): Place {
    const place = this.#places[number] ?? -1;
    const chunk = place < 0 ? undefined : this.#chunks[place >> offsetBits];
    if (!chunk) throw new RangeError(`Cannot read record ${number}: there is none`);
    return { bytes: chunk.bytes, at: place & (largestChunk - 1) };
  }

  #nextNumber(): number {
    const number = this.#free.pop() ?? this.#count++;
    if (number >= this.#places.length) {
      const places = new Int32Array(this.#places.length * 2).fill(-1);
      places.set(this.#places);
      this.#places = places;
    }
    return number;
  }

  #write(number: number, key: string, value: string): void {
    const keyBytes = Buffer.byteLength(key);
    const valueBytes = Buffer.byteLength(value);
    const chunk = this.#room(headBytes + keyBytes + valueBytes);
    const { bytes, used: at } = chunk;
    bytes.writeUInt32LE(number, at);
    bytes.writeUInt32LE(keyBytes, at + 4);
    bytes.writeUInt32LE(valueBytes, at + 8);
    bytes.write(key, at + headBytes);
    bytes.write(value, at + headBytes + keyBytes);
    this.#take(number, chunk, headBytes + keyBytes + valueBytes);
  }

  /** The record's bytes stand at the end of the open chunk. */
  #take(number: number, chunk: Chunk, size: number): void {
    this.#places[number] = (this.#openIndex << offsetBits) | chunk.used;
    chunk.used += size;
    chunk.live += size;
  }

  /** The open chunk, with room for so many bytes. A record that is larger than any chunk gets one of its size. */
  #room(size: number): Chunk {
    if (this.#open && this.#open.bytes.length - this.#open.used >= size) return this.#open;
    const before = this.#open?.bytes.length ?? 0;
    const wanted = Math.min(Math.max(before * 2, smallestChunk), largestChunk);
    const chunk = { bytes: Buffer.allocUnsafeSlow(Math.max(wanted, size)), used: 0, live: 0 };
    const free = this.#chunks.indexOf(undefined);
    const closed = this.#openIndex;
    this.#openIndex = free < 0 ? this.#chunks.length : free;
    this.#chunks[this.#openIndex] = chunk;
    this.#open = chunk;
    this.#tidy(closed);
    return this.#room(size);
  }

  /** The record's bytes are no longer looked up. */
  #abandon(number: number): void {
    const { bytes, at } = this.#at(number);
    const index = (this.#places[number] ?? 0) >> offsetBits;
    const chunk = this.#chunks[index];
    if (chunk) chunk.live -= headBytes + bytes.readUInt32LE(at + 4) + bytes.readUInt32LE(at + 8);
    this.#places[number] = -1;
    if (index !== this.#openIndex) this.#tidy(index);
  }

  /** Moves what is left in a chunk of which less than half is, and lets go of the chunk. */
  #tidy(index: number): void {
    const chunk = this.#chunks[index];
    if (!chunk || index === this.#openIndex || chunk.live * 2 > chunk.used) return;
    const { bytes } = chunk;
    for (let at = 0; at < chunk.used; ) {
      const number = bytes.readUInt32LE(at);
      const size = headBytes + bytes.readUInt32LE(at + 4) + bytes.readUInt32LE(at + 8);
      if (this.#places[number] === ((index << offsetBits) | at)) {
        const room = this.#room(size);
        bytes.copy(room.bytes, room.used, at, at + size);
        this.#take(number, room, size);
      }
      at += size;
    }
    this.#chunks[index] = undefined;
  }
}

/** Whether key and value are the same. */
function isSameRecord(a: Place, b: Place): boolean {
  const keyBytes = a.bytes.readUInt32LE(a.at + 4);
  const valueBytes = a.bytes.readUInt32LE(a.at + 8);
  if (keyBytes !== b.bytes.readUInt32LE(b.at + 4) || valueBytes !== b.bytes.readUInt32LE(b.at + 8))
    return false;
  const [start, itsStart] = [a.at + headBytes, b.at + headBytes];
  const size = keyBytes + valueBytes;
  return a.bytes.compare(b.bytes, itsStart, itsStart + size, start, start + size) === 0;
}
