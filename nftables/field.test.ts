import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { networkOf, parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { formatIp, type IpAddress, parseIp } from "#net/ip.ts";
import { macFromBytes } from "#net/mac.ts";
import {
  etherAddress,
  type Field,
  interfaceName,
  ipv4,
  ipv4Prefix,
  ipv6,
  ipv6Prefix,
  mark,
} from "./field.ts";

const ip4 = fc.nat(0xffffffff).map((value): IpAddress => ({ family: 4, value: BigInt(value) }));
const ip6 = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map((value): IpAddress => ({ family: 6, value }));
const subnet = (address: fc.Arbitrary<IpAddress>, bits: number) =>
  fc.tuple(address, fc.nat(bits)).map(([address, prefixLength]) => networkOf({ address, prefixLength }));
const macs = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes);
const names = fc.stringMatching(/^[a-z][a-z0-9._-]{0,14}$/u).map(parseIfName);

function readsBack<T>(field: Field<T>, values: fc.Arbitrary<T>): void {
  fc.assert(
    fc.property(values, (value) => {
      const bounds = field.encode(value);
      expect(bounds.first).toHaveLength(field.byteLength);
      expect(bounds.last).toHaveLength(field.byteLength);
      expect(field.decode(bounds)).toEqual(value);
    }),
  );
}

describe("fields", () => {
  it("read back the bytes they wrote", () => {
    readsBack(ipv4, ip4);
    readsBack(ipv6, ip6);
    readsBack(ipv4Prefix, subnet(ip4, 32));
    readsBack(ipv6Prefix, subnet(ip6, 128));
    readsBack(etherAddress, macs);
    readsBack(interfaceName, names);
    readsBack(mark, fc.nat(0xffffffff));
  });

  it("write addresses as packets carry them, and subnets as first and last address", () => {
    expect(ipv4.encode(parseIp("10.1.0.2")).first).toEqual(Uint8Array.of(10, 1, 0, 2));
    const { first, last } = ipv4Prefix.encode(parseCidr("10.1.7.9/20"));
    expect([first, last]).toEqual([Uint8Array.of(10, 1, 0, 0), Uint8Array.of(10, 1, 15, 255)]);
  });

  it("refuse an address of the other family", () => {
    expect(() => ipv4.encode(parseIp("fd00::1"))).toThrow("Cannot use fd00::1 as ipv4_addr");
    expect(() => ipv6Prefix.encode(parseCidr("10.0.0.0/8"))).toThrow("Cannot use 10.0.0.0/8 as ipv6_addr");
  });

  it("refuse a range that is no prefix, as another hand may have made one", () => {
    const range = (from: string, to: string) => ({
      first: ipv4.encode(parseIp(from)).first,
      last: ipv4.encode(parseIp(to)).first,
    });
    expect(() => ipv4Prefix.decode(range("10.0.0.1", "10.0.0.7"))).toThrow(
      "Cannot read 10.0.0.1-10.0.0.7 as a prefix",
    );
    expect(() => ipv4Prefix.decode(range("10.0.0.0", "10.0.0.6"))).toThrow(RangeError);
    expect(() => ipv4Prefix.decode(range("10.0.0.7", "10.0.0.0"))).toThrow(RangeError);
    expect(formatIp(ipv4Prefix.decode(range("10.0.0.0", "10.0.0.7")).address)).toBe("10.0.0.0");
  });

  it("read what nft -j prints", () => {
    expect(ipv4Prefix.parseJson({ prefix: { addr: "10.1.0.0", len: 16 } })).toEqual(parseCidr("10.1.0.0/16"));
    expect(ipv4Prefix.parseJson("10.1.0.1")).toEqual(parseCidr("10.1.0.1/32"));
    expect(ipv6.parseJson("fd00::1")).toEqual(parseIp("fd00::1"));
    expect(mark.parseJson(1)).toBe(1);
    for (const odd of [
      null,
      7,
      {},
      { prefix: 1 },
      { prefix: { addr: "10.0.0.0" } },
      { range: ["10.0.0.1", "10.0.0.7"] },
    ]) {
      expect(() => ipv4Prefix.parseJson(odd)).toThrow(RangeError);
    }
  });
});
