import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { arbitraryOf } from "#testing/attribute-arbitrary.ts";
import { attributesIn, attributeTable, listOf, repeated } from "./attribute.ts";
import { bool, bytes, flag, ip, mac, text, u8, u16, u16be, u32, u32be, u64, u64be } from "./codec.ts";
import { DecodeError } from "./decode-error.ts";
import { bridge } from "./route/kind/bridge.ts";
import { bridgePort } from "./route/kind/bridge-port.ts";
import { macvlan } from "./route/kind/macvlan.ts";
import { tun } from "./route/kind/tun.ts";
import { veth } from "./route/kind/veth.ts";
import { vlan } from "./route/kind/vlan.ts";
import { vrf } from "./route/kind/vrf.ts";
import { vxlan } from "./route/kind/vxlan.ts";
import { neighborAttributes } from "./route/neighbor.ts";

/** Spaces set attributes apart. */
function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

const inner = attributeTable({ depth: [1, u8], label: [2, text] });
const table = attributeTable({
  small: [1, u8],
  name: [2, text],
  here: [3, flag],
  inner: [4, inner],
  numbers: [5, repeated(u16)],
  list: [6, listOf(u32be)],
  big: [7, u64be],
});

describe("attributeTable()", () => {
  test("writes what is not undefined, 0 and false included", () => {
    const simple = attributeTable({ number: [1, u8], yes: [2, bool], left: [3, u8] });
    const encoded = simple.encode({ number: 0, yes: false, left: undefined });
    expect(encoded).toEqual(bytesOf("0500010000000000 0500020000000000"));
  });

  test("marks what contains attributes as nested", () => {
    expect(table.encode({ inner: { depth: 7 } })).toEqual(bytesOf("0c000480 0500010007000000"));
    expect(table.decode(table.encode({ inner: {} }))).toEqual({ inner: {} });
  });

  test("keeps what it does not know, and writes it again", () => {
    const data = bytesOf("08006340deadbeef 050001000a000000");
    const value = table.decode(data);
    expect(value).toEqual({
      small: 10,
      unknown: [{ type: 0x63, flags: 0x4000, payload: Uint8Array.of(0xde, 0xad, 0xbe, 0xef) }],
    });
    expect(table.decode(table.encode(value))).toEqual(value);
  });

  test("counts the last where an attribute comes twice, as the kernel does, unless it may be repeated", () => {
    const data = bytesOf("0500010001000000 0500010002000000 0600050003000000 0600050004000000");
    expect(table.decode(data)).toEqual({ small: 2, numbers: [3, 4] });
  });

  test("picks a few attributes, and does not look at the others", () => {
    const data = bytesOf("0500010001000000 0600020041420000 0600050003000000 0600050004000000");
    expect(table.picker("numbers", "here", "small")(data)).toEqual({ numbers: [3, 4], small: 1 });
    expect(() => table.picker("name")(data.subarray(0, 12))).toThrow(DecodeError);
    expect(() => table.picker("small")(bytesOf("06000100ffff0000"))).toThrow(
      expect.objectContaining({ path: ["small"] }),
    );
  });

  test("names the way to what it cannot decode", () => {
    const data = bytesOf("0c00048006000100ffff0000");
    expect(() => table.decode(data)).toThrow(
      expect.objectContaining({
        name: "DecodeError",
        path: ["inner", "depth"],
        message: "Cannot decode netlink inner.depth: 2 bytes instead of 1",
      }),
    );
  });

  test("refuses attributes that reach beyond the end", () => {
    for (const hex of ["0500", "030001", "0300010000", "0900010000000000", "0400010004000200ff"]) {
      expect(() => attributesIn(bytesOf(hex)), hex).toThrow(DecodeError);
    }
    // The padding of the last one may be missing.
    expect(attributesIn(bytesOf("050001000a"))).toHaveLength(1);
  });

  test("names the attribute whose value does not fit", () => {
    expect(() => table.encode({ small: 256 })).toThrow(
      /^small: Cannot encode 256 in 1 bytes: .* from 0 to 255$/,
    );
    expect(() => table.encode({ inner: { label: "a\0b" } })).toThrow(
      /^inner: label: Cannot encode "a\\u0000b"/,
    );
    expect(() => table.encode({ name: "x".repeat(70_000) })).toThrow(/exceed 65535$/);
    expect(() => table.encode({ big: -1n })).toThrow(RangeError);
    expect(() => table.encode({ small: 1.5 })).toThrow(RangeError);
  });
});

const portRange = fc.record({ low: fc.nat(0xffff), high: fc.nat(0xffff) });
const vlanFlags = fc.record({ flags: fc.nat(0x7fffffff), mask: fc.nat(0x7fffffff) });

describe.each([
  [
    "a table of every codec",
    attributeTable({
      u8: [1, u8],
      u16: [2, u16],
      u32: [3, u32],
      u64: [4, u64],
      u16be: [5, u16be],
      u32be: [6, u32be],
      u64be: [7, u64be],
      bool: [8, bool],
      flag: [9, flag],
      text: [10, text],
      bytes: [11, bytes],
      ip: [12, ip],
      mac: [13, mac],
      inner: [14, inner],
    }),
    {},
  ],
  [
    "repeated and lists",
    table,
    { numbers: fc.array(fc.nat(0xffff), { minLength: 1 }), list: fc.array(fc.nat()) },
  ],
  ["bridge", bridge, {}],
  ["bridge port", bridgePort, {}],
  ["macvlan", macvlan, {}],
  ["tun", tun, {}],
  ["vlan", vlan, { flags: vlanFlags }],
  ["vrf", vrf, {}],
  ["vxlan", vxlan, { portRange }],
  ["neighbor", neighborAttributes, {}],
] as const)("%s", (_, subject, own) => {
  // One shape for all of them: what the table's own type is does not matter here.
  const any = subject as unknown as typeof inner;

  test("decodes what it encoded", () => {
    fc.assert(
      fc.property(arbitraryOf(any, own), (value) => {
        expect(any.decode(any.encode(value))).toEqual(value);
      }),
    );
  });

  test("decodes anything, or throws DecodeError", () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      // Well-formed attributes with noise in them reach deeper.
      fc.array(fc.tuple(fc.nat(64), fc.uint8Array({ maxLength: 20 }))).map((list) =>
        attributeTable({}).encode({
          unknown: list.map(([type, payload]) => ({ type, flags: 0, payload })),
        }),
      ),
    );
    fc.assert(
      fc.property(noise, (data) => {
        try {
          any.decode(data);
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
        }
      }),
    );
  });
});

test("veth carries its peer as a link of its own", () => {
  const peer = {
    header: { family: 0, type: 0, ifindex: 9, flags: 1, change: 1 },
    attributes: { name: "eth0", mtu: 1400, namespaceFd: 5 },
  };
  expect(veth.decode(veth.encode({ peer }))).toEqual({ peer });
  expect(() => veth.decode(bytesOf("080001800000000000"))).toThrow(DecodeError);
});
