import { hostLittleEndian } from "./byte-order.ts";
import type { Codec } from "./codec.ts";
import { DecodeError } from "./decode-error.ts";
import { nestedFlag, Writer } from "./writer.ts";

/** An attribute that its table does not name, as the kernel sent it. */
export interface UnknownAttribute {
  /** nla_type without its two flags */
  readonly type: number;
  /** NLA_F_NESTED (0x8000) and NLA_F_NET_BYTEORDER (0x4000) */
  readonly flags: number;
  readonly payload: Uint8Array;
}

/** Where a u16 has its lower and its higher eight bits. */
const low = hostLittleEndian ? 0 : 1;
const high = 1 - low;

/**
 * Calls `visit` for each attribute, with its type and flags apart, and with where its payload lies.
 * @throws {DecodeError} where one reaches beyond the end
 */
function eachAttribute(
  data: Uint8Array,
  visit: (type: number, flags: number, start: number, end: number) => void,
): void {
  const size = data.length;
  for (let at = 0; at < size; ) {
    if (size - at < 4) throw new DecodeError(`${size - at} bytes left where an attribute starts`);
    // Written out, since this runs a hundred times for one link.
    const length = (data[at + low] as number) | ((data[at + high] as number) << 8);
    const type = (data[at + 2 + low] as number) | ((data[at + 2 + high] as number) << 8);
    if (length < 4 || length > size - at) {
      throw new DecodeError(`attribute ${type & 0x3fff} claims ${length} of ${size - at} bytes`);
    }
    visit(type & 0x3fff, type & 0xc000, at + 4, at + length);
    at += (length + 3) & ~3;
  }
}

/** All attributes in their order. @throws {DecodeError} where one reaches beyond the end */
export function attributesIn(data: Uint8Array): UnknownAttribute[] {
  const found: UnknownAttribute[] = [];
  eachAttribute(data, (type, flags, start, end) =>
    found.push({ type, flags, payload: data.subarray(start, end) }),
  );
  return found;
}

/** What a row may hold: any codec, seen without its type. */
interface RowCodec {
  write(into: Writer, value: never): void;
  read(payload: Uint8Array): unknown;
  readonly nested?: boolean;
  readonly item?: RowCodec;
}
type Rows = Readonly<Record<string, readonly [type: number, codec: RowCodec]>>;

type Values<R extends Rows> = {
  readonly [K in keyof R]?: ReturnType<R[K][1]["read"]> | undefined;
} & { readonly unknown?: readonly UnknownAttribute[] | undefined };

export interface AttributeTable<R extends Rows> extends Codec<Values<R>> {
  readonly rows: R;
  readonly nested: true;
  encode(value: Values<R>): Uint8Array;
  decode(data: Uint8Array): Values<R>;
  /**
   * A decoder for a few attributes; all others are passed over without a look at them. For messages of a hundred
   * attributes of which three matter. It throws as `decode` does.
   */
  picker<const Name extends keyof R & string>(
    ...names: readonly Name[]
  ): (data: Uint8Array) => Pick<Values<R>, Name>;
}

/** The value that a table (or any codec) writes and reads. */
export type TypeOf<C extends { read(payload: Uint8Array): unknown }> = ReturnType<C["read"]>;

/**
 * One row per attribute gives the TypeScript type, the encoder and the decoder. What it promises:
 * `decode` throws DecodeError and nothing else, on any input; where an attribute comes twice, the last one counts, as
 * in the kernel; one that no row names is kept in `unknown`. `encode` writes every value but `undefined` (0 and false
 * are values), in the order of the rows, the unknown ones last. `decode(encode(x))` equals x.
 * A table is a codec itself, so it can stand in a row of another.
 */
export function attributeTable<const R extends Rows>(rows: R): AttributeTable<R> {
  const list = Object.entries<Rows[string]>(rows).map(
    ([name, [type, codec]], place): Row => ({ name, type, codec, place }),
  );
  const byName = new Map(list.map((row) => [row.name, row]));
  const byType = indexByType(list);

  const table: AttributeTable<R> = {
    rows,
    nested: true,
    write(into, value) {
      const values: Readonly<Record<string, unknown>> = value;
      // Found by what is there: most messages have few of the many attributes.
      const present: Row[] = [];
      for (const name in values) {
        const row = values[name] === undefined ? undefined : byName.get(name);
        if (row) present.push(row);
      }
      present.sort((a, b) => a.place - b.place);
      for (const row of present) writeRow(into, row, values[row.name]);
      for (const { type, flags, payload } of value.unknown ?? []) {
        into.attribute(type | flags, (writer) => writer.bytes(payload));
      }
    },
    read(data) {
      const values: Record<string, unknown> = {};
      const unknown: UnknownAttribute[] = [];
      eachAttribute(data, (type, flags, start, end) => {
        const payload = data.subarray(start, end);
        const row = byType[type];
        if (row) values[row.name] = readRow(row, payload, values[row.name]);
        else unknown.push({ type, flags, payload });
      });
      if (unknown.length > 0) values["unknown"] = unknown;
      return values as Values<R>;
    },
    encode(value) {
      const writer = new Writer();
      table.write(writer, value);
      return writer.finish();
    },
    decode(data) {
      return table.read(data);
    },
    picker(...names) {
      const wanted: readonly string[] = names;
      const picked = indexByType(list.filter(({ name }) => wanted.includes(name)));
      return (data) => {
        const values: Record<string, unknown> = {};
        eachAttribute(data, (type, _flags, start, end) => {
          const row = picked[type];
          if (row) values[row.name] = readRow(row, data.subarray(start, end), values[row.name]);
        });
        return values as never;
      };
    },
  };
  return table;
}

interface Row {
  readonly name: string;
  readonly type: number;
  readonly codec: RowCodec;
  readonly place: number;
}

function indexByType(rows: readonly Row[]): readonly (Row | undefined)[] {
  const index: (Row | undefined)[] = [];
  for (const row of rows) index[row.type] = row;
  return Array.from(index);
}

function writeRow(into: Writer, { name, type, codec }: Row, value: unknown): void {
  try {
    if (!codec.item) writeAttribute(into, type, codec, value);
    else for (const each of value as readonly unknown[]) writeAttribute(into, type, codec.item, each);
  } catch (error) {
    if (error instanceof RangeError) throw new RangeError(`${name}: ${error.message}`, { cause: error });
    throw error;
  }
}

function writeAttribute(into: Writer, type: number, codec: RowCodec, value: unknown): void {
  const start = into.beginAttribute(codec.nested ? type | nestedFlag : type);
  codec.write(into, value as never);
  into.endAttribute(start);
}

/** @param before the row's value so far: one that may come several times collects them */
function readRow({ name, codec }: Row, payload: Uint8Array, before: unknown): unknown {
  try {
    if (!codec.item) return codec.read(payload);
    return [...((before as readonly unknown[] | undefined) ?? []), codec.item.read(payload)];
  } catch (error) {
    if (error instanceof DecodeError) throw error.within(name);
    throw error;
  }
}

/** An attribute that may come several times: its row's value is an array. An empty array writes nothing. */
export function repeated<T>(item: Codec<T>): Codec<readonly T[]> & { readonly item: Codec<T> } {
  return {
    item,
    write(into, values) {
      for (const value of values) item.write(into, value);
    },
    read(payload) {
      return [item.read(payload)];
    },
  };
}

/** A nested attribute that holds a list, each element under the same type (NFTA_LIST_ELEM is 1). Reading ignores it. */
export function listOf<T>(item: Codec<T>, elementType = 1): Codec<readonly T[]> {
  return {
    nested: true,
    write(into, values) {
      for (const value of values)
        into.attribute(elementType, (writer) => item.write(writer, value), item.nested);
    },
    read(payload) {
      return attributesIn(payload).map((element) => item.read(element.payload));
    },
  };
}
