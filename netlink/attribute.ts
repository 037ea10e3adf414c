import { readU16 } from "./byte-order.ts";
import type { Codec } from "./codec.ts";
import { DecodeError } from "./decode-error.ts";
import { Writer } from "./writer.ts";

/** An attribute that its table does not name, as the kernel sent it. */
export interface UnknownAttribute {
  /** nla_type without its two flags */
  readonly type: number;
  /** NLA_F_NESTED (0x8000) and NLA_F_NET_BYTEORDER (0x4000) */
  readonly flags: number;
  readonly payload: Uint8Array;
}

/**
 * Calls `visit` for each attribute, with its type and flags apart, and with where its payload lies.
 * @throws {DecodeError} where one reaches beyond the end
 */
function eachAttribute(
  data: Uint8Array,
  visit: (type: number, flags: number, start: number, end: number) => void,
): void {
  let at = 0;
  while (at < data.length) {
    if (data.length - at < 4)
      throw new DecodeError(`${data.length - at} bytes left where an attribute starts`);
    const length = readU16(data, at);
    const type = readU16(data, at + 2);
    if (length < 4 || length > data.length - at) {
      throw new DecodeError(`attribute ${type & 0x3fff} claims ${length} of ${data.length - at} bytes`);
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
   * A decoder for a few attributes, in the order of their names; all others are passed over without a look at them. For
   * messages of a hundred attributes of which three matter. It throws as `decode` does.
   */
  picker<const Names extends readonly (keyof R & string)[]>(
    ...names: Names
  ): (data: Uint8Array) => { readonly [I in keyof Names]: Values<R>[Names[I]] };
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
  const entries = Object.entries<Rows[string]>(rows);
  const byType = new Map(entries.map(([name, [type, codec]]) => [type, { name, codec }]));

  const table: AttributeTable<R> = {
    rows,
    nested: true,
    write(into, value) {
      const values: Readonly<Record<string, unknown>> = value;
      for (const [name, [type, codec]] of entries) {
        const content = values[name];
        if (content === undefined) continue;
        for (const each of codec.item ? (content as readonly unknown[]) : [content]) {
          writeRow(into, name, type, codec.item ?? codec, each as never);
        }
      }
      for (const { type, flags, payload } of value.unknown ?? []) {
        into.attribute(type | flags, (writer) => writer.bytes(payload));
      }
    },
    read(data) {
      const values: Record<string, unknown> = {};
      const unknown: UnknownAttribute[] = [];
      eachAttribute(data, (type, flags, start, end) => {
        const payload = data.subarray(start, end);
        const row = byType.get(type);
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
      const picked = new Map(
        entries.flatMap(([name, [type, codec]]) => {
          const place = names.indexOf(name);
          return place < 0 ? [] : [[type, { name, codec, place }] as const];
        }),
      );
      return (data) => {
        const values: unknown[] = names.map(() => undefined);
        eachAttribute(data, (type, _flags, start, end) => {
          const row = picked.get(type);
          if (row) values[row.place] = readRow(row, data.subarray(start, end), values[row.place]);
        });
        return values as never;
      };
    },
  };
  return table;
}

function writeRow(into: Writer, name: string, type: number, codec: RowCodec, value: never): void {
  try {
    into.attribute(type, (writer) => codec.write(writer, value), codec.nested);
  } catch (error) {
    if (error instanceof RangeError) throw new RangeError(`${name}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** @param before the row's value so far: one that may come several times collects them */
function readRow(
  row: { readonly name: string; readonly codec: RowCodec },
  payload: Uint8Array,
  before: unknown,
): unknown {
  const { name, codec } = row;
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
