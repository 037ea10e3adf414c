import * as fc from "fast-check";
import type { MacAddress } from "#net/mac.ts";
import {
  bool,
  bytes,
  type Codec,
  flag,
  hardwareAddress,
  i8,
  i32,
  ip,
  mac,
  text,
  u8,
  u16,
  u16be,
  u32,
  u32be,
  u64,
  u64be,
} from "#netlink/codec.ts";

const macArbitrary = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(
  (octets) =>
    Buffer.from(octets)
      .toString("hex")
      .replace(/..(?=.)/g, "$&:") as MacAddress,
);

const byteArbitrary = fc.uint8Array({ maxLength: 40 });

const u16Arbitrary = fc.integer({ min: 0, max: 0xffff });
const u32Arbitrary = fc.integer({ min: 0, max: 0xffffffff });
const u64Arbitrary = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

const byCodec = new Map<unknown, fc.Arbitrary<unknown>>([
  [u8, fc.integer({ min: 0, max: 0xff })],
  [i8, fc.integer({ min: -0x80, max: 0x7f })],
  [u16, u16Arbitrary],
  [u16be, u16Arbitrary],
  [u32, u32Arbitrary],
  [u32be, u32Arbitrary],
  [i32, fc.integer({ min: -0x80000000, max: 0x7fffffff })],
  [u64, u64Arbitrary],
  [u64be, u64Arbitrary],
  [bool, fc.boolean()],
  [flag, fc.constant(true)],
  [text, fc.string({ unit: "grapheme" }).filter((value) => !value.includes("\0"))],
  [bytes, byteArbitrary],
  [
    ip,
    fc.oneof(
      fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((value) => ({ family: 4, value })),
      fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map((value) => ({ family: 6, value })),
    ),
  ],
  [mac, macArbitrary],
  [
    hardwareAddress,
    fc.oneof(
      macArbitrary,
      byteArbitrary.filter((value) => value.length !== 6),
    ),
  ],
]);

interface Table {
  readonly rows: Readonly<Record<string, readonly [number, unknown]>>;
}

function isTable(codec: unknown): codec is Table {
  return typeof codec === "object" && codec !== null && "rows" in codec;
}

/**
 * Any value that a table can encode, unknown attributes among them. Rows whose codec is not one of `codec.ts` need
 * their arbitrary in `own`; without one they stay empty.
 */
export function arbitraryOf<T>(
  table: Table & Codec<T>,
  own: Readonly<Record<string, fc.Arbitrary<unknown>>> = {},
): fc.Arbitrary<T> {
  const rows = Object.entries(table.rows).flatMap(([name, [, codec]]) => {
    const arbitrary =
      own[name] ??
      byCodec.get(codec) ??
      (isTable(codec) ? arbitraryOf(codec as Table & Codec<unknown>, own) : undefined);
    return arbitrary ? [[name, arbitrary] as const] : [];
  });
  const taken = new Set(Object.values(table.rows).map(([type]) => type));
  const unknown = fc.array(
    fc.record({
      type: fc.integer({ min: 0, max: 0x3fff }).filter((type) => !taken.has(type)),
      flags: fc.constantFrom(0, 0x8000, 0x4000),
      payload: byteArbitrary,
    }),
    { minLength: 1, maxLength: 3 },
  );
  const model = { ...Object.fromEntries(rows), unknown };
  return fc.record(model, { requiredKeys: [] }) as unknown as fc.Arbitrary<T>;
}
