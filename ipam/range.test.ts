import { describe, expect, test } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { completeRange, completeRangeSets, formatRangeSet, type RangeSpec } from "./range.ts";

function spec(subnet: string, rest: { start?: string; end?: string; gateway?: string } = {}): RangeSpec {
  return {
    subnet: parseCidr(subnet),
    rangeStart: rest.start === undefined ? undefined : parseIp(rest.start),
    rangeEnd: rest.end === undefined ? undefined : parseIp(rest.end),
    gateway: rest.gateway === undefined ? undefined : parseIp(rest.gateway),
  };
}

describe("completeRange()", () => {
  test.each([
    ["10.1.0.0/24", "10.1.0.1-10.1.0.254", "10.1.0.1"],
    ["10.0.0.0/8", "10.0.0.1-10.255.255.254", "10.0.0.1"],
    ["192.168.7.4/30", "192.168.7.5-192.168.7.6", "192.168.7.5"],
    ["fd00:1::/64", "fd00:1::1-fd00:1::ffff:ffff:ffff:ffff", "fd00:1::1"],
    ["fd00:1::4/126", "fd00:1::5-fd00:1::7", "fd00:1::5"],
  ])("of %s gives %s with gateway %s", (subnet, range, gateway) => {
    const complete = completeRange(spec(subnet));
    expect(formatRangeSet([complete])).toBe(range);
    expect(complete.gateway).toEqual(parseIp(gateway));
  });

  test("keeps what is said", () => {
    const complete = completeRange(
      spec("10.1.0.0/16", { start: "10.1.2.0", end: "10.1.2.255", gateway: "10.1.9.9" }),
    );
    expect(formatRangeSet([complete])).toBe("10.1.2.0-10.1.2.255");
    expect(complete.gateway).toEqual(parseIp("10.1.9.9"));
  });

  test("takes an IPv4-mapped address for the IPv4 address, as Go does", () => {
    const complete = completeRange(
      spec("10.1.0.0/24", { start: "::ffff:10.1.0.9", gateway: "::ffff:10.1.0.3" }),
    );
    expect(complete.start).toEqual(parseIp("10.1.0.9"));
    expect(complete.gateway).toEqual(parseIp("10.1.0.3"));
  });

  test.each(["fe80::1", "fe80::ffff:1"])("takes link-local gateway %s for any subnet", (gateway) => {
    expect(completeRange(spec("fd00::/64", { gateway })).gateway).toEqual(parseIp(gateway));
  });

  test.each([
    ["10.1.0.0/31", {}, "Network 10.1.0.0/31 too small to allocate from"],
    ["10.1.0.0/32", {}, "Network 10.1.0.0/32 too small to allocate from"],
    ["fd00::/127", {}, "Network fd00::/127 too small to allocate from"],
    ["fd00::/128", {}, "Network fd00::/128 too small to allocate from"],
    [
      "10.1.2.3/24",
      {},
      "Network has host bits set. For a subnet mask of length 24 the network address is 10.1.2.0, not 10.1.2.3",
    ],
    [
      "fd00::1/64",
      {},
      "Network has host bits set. For a subnet mask of length 64 the network address is fd00::, not fd00::1",
    ],
    ["::ffff:10.0.0.0/120", {}, "IPNet IP and Mask version mismatch: ::ffff:10.0.0.0/120"],
    ["10.1.0.0/24", { start: "10.2.0.1" }, "RangeStart 10.2.0.1 not in network 10.1.0.0/24"],
    ["10.1.0.0/24", { end: "10.2.0.1" }, "RangeEnd 10.2.0.1 not in network 10.1.0.0/24"],
    ["10.1.0.0/24", { start: "fd00::1" }, "RangeStart fd00::1 not in network 10.1.0.0/24"],
    ["10.1.0.0/24", { end: "fd00::1" }, "RangeEnd fd00::1 not in network 10.1.0.0/24"],
    [
      "10.1.0.0/24",
      { start: "10.1.0.9", end: "10.1.0.8" },
      "RangeStart 10.1.0.9 not in network 10.1.0.0/24 up to 10.1.0.8",
    ],
    [
      "10.1.0.0/24",
      { start: "10.1.0.255" },
      "RangeEnd 10.1.0.254 not in network 10.1.0.0/24 from 10.1.0.255",
    ],
    ["10.1.0.0/24", { gateway: "10.2.0.1" }, "Gateway 10.2.0.1 not in network 10.1.0.0/24"],
    ["10.1.0.0/24", { gateway: "fe80::1" }, "Gateway fe80::1 not in network 10.1.0.0/24"],
  ])("refuses %s %o", (subnet, rest, message) => {
    expect(() => completeRange(spec(subnet, rest))).toThrow(new RangeError(message));
  });
});

describe("completeRangeSets()", () => {
  test.each([
    [[], "no IP ranges specified"],
    [[[]], "invalid range set 0: empty range set"],
    [[[spec("10.1.0.0/24"), spec("fd00::/64")]], "invalid range set 0: mixed address families"],
    [
      [[spec("10.9.0.0/24")], [spec("10.1.0.0/24"), spec("10.1.0.0/16")]],
      "invalid range set 1: subnets 10.1.0.1-10.1.0.254 and 10.1.0.1-10.1.255.254 overlap",
    ],
    [[[spec("10.1.0.0/24")], [spec("fd00::/64")], [spec("10.1.0.0/16")]], "range set 0 overlaps with 2"],
    [[[spec("10.1.0.0/31")]], "invalid range set 0: Network 10.1.0.0/31 too small to allocate from"],
  ])("refuses %#", (sets, message) => {
    expect(() => completeRangeSets(sets)).toThrow(new RangeError(message));
  });

  test("takes two ranges of one subnet that have no address in common", () => {
    const sets = completeRangeSets([
      [
        spec("10.1.0.0/24", { start: "10.1.0.10", end: "10.1.0.19" }),
        spec("10.1.0.0/24", { start: "10.1.0.20", end: "10.1.0.29" }),
      ],
    ]);
    expect(sets.map((set) => formatRangeSet(set))).toEqual(["10.1.0.10-10.1.0.19,10.1.0.20-10.1.0.29"]);
  });
});
