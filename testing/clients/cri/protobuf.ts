/**
 * The wire format of protocol buffers, as far as the CRI's messages need it: numbers, texts, messages and lists of them
 * (https://protobuf.dev/programming-guides/encoding). A field is a pair of its number and its value.
 */

type Value = number | boolean | string | Uint8Array | readonly (string | Uint8Array)[];

const varint = 0;
const lengthDelimited = 2;

/** A message, or an entry of a map (field 1 the key, field 2 the value). Zero, false and "" are left out. */
export function message(
  ...fields: readonly (readonly [number: number, value: Value | undefined])[]
): Uint8Array {
  const parts = fields.flatMap(([number, value]): readonly Uint8Array[] => {
    if (value === undefined || value === 0 || value === false || value === "") return [];
    if (typeof value === "number" || typeof value === "boolean")
      return [encodeVarint(number * 8 + varint), encodeVarint(Number(value))];
    const items = typeof value === "string" || value instanceof Uint8Array ? [value] : value;
    return items.flatMap((item) => {
      const bytes = typeof item === "string" ? Buffer.from(item) : item;
      return [encodeVarint(number * 8 + lengthDelimited), encodeVarint(bytes.length), bytes];
    });
  });
  return Buffer.concat(parts);
}

/** `map<string, string>` as the list of its entries. */
export function mapEntries(entries: Readonly<Record<string, string>>): readonly Uint8Array[] {
  return Object.entries(entries).map(([key, value]) => message([1, key], [2, value]));
}

/** A message that was read. Fields that are not there read as proto3's defaults. */
export class Fields {
  readonly #values = new Map<number, (number | Uint8Array)[]>();

  /** @throws {RangeError} for bytes that are no message */
  constructor(bytes: Uint8Array) {
    const reader = new Reader(bytes);
    while (!reader.atEnd) {
      const tag = reader.varint();
      const values = this.#values.get(Math.floor(tag / 8)) ?? [];
      values.push(reader.value(tag % 8));
      this.#values.set(Math.floor(tag / 8), values);
    }
  }

  number(field: number): number {
    const value = this.#values.get(field)?.at(-1);
    return typeof value === "number" ? value : 0;
  }

  text(field: number): string {
    return this.texts(field).at(-1) ?? "";
  }

  texts(field: number): readonly string[] {
    return this.#bytes(field).map((bytes) => Buffer.from(bytes).toString("utf8"));
  }

  message(field: number): Fields {
    return this.messages(field).at(-1) ?? new Fields(new Uint8Array());
  }

  messages(field: number): readonly Fields[] {
    return this.#bytes(field).map((bytes) => new Fields(bytes));
  }

  #bytes(field: number): readonly Uint8Array[] {
    return (this.#values.get(field) ?? []).filter((value): value is Uint8Array => typeof value !== "number");
  }
}

/** Below 2^53, which no number here reaches but timestamps, whose last digits nobody reads. */
function encodeVarint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  varint(): number {
    for (let value = 0, unit = 1; ; unit *= 128) {
      const byte = this.#take(1)[0] ?? 0;
      value += (byte % 128) * unit;
      if (byte < 128) return value;
    }
  }

  value(wireType: number): number | Uint8Array {
    if (wireType === varint) return this.varint();
    if (wireType === lengthDelimited) return this.#take(this.varint());
    if (wireType === 1) return this.#take(8);
    if (wireType === 5) return this.#take(4);
    throw new RangeError(`Cannot read wire type ${wireType}`);
  }

  #take(length: number): Uint8Array {
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    if (bytes.length < length) throw new RangeError("Cannot read a message that is cut off");
    this.#at += length;
    return bytes;
  }
}
