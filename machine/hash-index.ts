/** An empty slot; a number is kept as itself. */
const empty = -1;
/** Something was here: a search goes on. */
const gone = -2;

const slotInts = 2;
const fewestSlots = 16;

/** Changes with each process, so that nobody can say beforehand which texts come to the same. */
const seed = Math.floor(Math.random() * 0x1_0000_0000);

/** 32 bits of a text (FNV-1a over its UTF-16 units, with murmur3's last step). */
export function hashText(text: string): number {
  let hash = seed;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/**
 * Numbers by hash, several for one: eight bytes a slot, and nothing for the garbage collector to look through. What a
 * hash stands for the caller looks up by the number.
 */
export class HashIndex {
  #slots = new Int32Array(fewestSlots * slotInts).fill(empty);
  /** Slots that are not empty. */
  #used = 0;
  #size = 0;

  /** How many numbers are in it. */
  get size(): number {
    return this.#size;
  }

  /** @param number not negative; not there yet by that hash */
  add(hash: number, number: number): void {
    if ((this.#used + 1) * slotInts > this.#slots.length * 0.7) this.#resize();
    this.#put(hash, number);
    this.#used++;
    this.#size++;
  }

  /** Does nothing where it is not there. */
  remove(hash: number, number: number): void {
    const slots = this.#slots;
    for (let at = this.#first(hash); slots[at + 1] !== empty; at = this.#next(at)) {
      if (slots[at] !== hash || slots[at + 1] !== number) continue;
      slots[at + 1] = gone;
      this.#size--;
      return;
    }
  }

  /** The first number by that hash of which `isIt` says so. */
  find(hash: number, isIt: (number: number) => boolean): number | undefined {
    const slots = this.#slots;
    for (let at = this.#first(hash); slots[at + 1] !== empty; at = this.#next(at)) {
      const number = slots[at + 1] ?? empty;
      if (number >= 0 && slots[at] === hash && isIt(number)) return number;
    }
    return undefined;
  }

  /** All numbers by that hash: also of what comes to the same by chance. */
  all(hash: number): readonly number[] {
    const numbers: number[] = [];
    this.find(hash, (number) => {
      numbers.push(number);
      return false;
    });
    return numbers;
  }

  /** All hashes, each with its numbers, in no order. Nothing may be added meanwhile. */
  forEach(action: (hash: number, number: number) => void): void {
    const slots = this.#slots;
    for (let at = 0; at < slots.length; at += slotInts) {
      const number = slots[at + 1] ?? empty;
      if (number >= 0) action(slots[at] ?? 0, number);
    }
  }

  #resize(): void {
    const before = this.#slots;
    let count = fewestSlots;
    while (count * 0.5 < this.#size + 1) count *= 2;
    this.#slots = new Int32Array(count * slotInts).fill(empty);
    this.#used = this.#size;
    for (let at = 0; at < before.length; at += slotInts) {
      const number = before[at + 1] ?? empty;
      if (number >= 0) this.#put(before[at] ?? 0, number);
    }
  }

  #put(hash: number, number: number): void {
    const slots = this.#slots;
    let at = this.#first(hash);
    while (slots[at + 1] !== empty) at = this.#next(at);
    slots[at] = hash;
    slots[at + 1] = number;
  }

  #first(hash: number): number {
    return (hash & (this.#slots.length / slotInts - 1)) * slotInts;
  }

  #next(at: number): number {
    return (at + slotInts) & (this.#slots.length - 1);
  }
}
