import { isIP, isIPv6 } from "node:net";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  addToIp,
  compareIp,
  formatIp,
  type IpAddress,
  ipFromBytes,
  ipToBytes,
  isLinkLocal,
  isLoopback,
  isMulticast,
  parseIp,
  tryParseIp,
} from "./ip.ts";

const anyIp: fc.Arbitrary<IpAddress> = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((value) => ({ family: 4 as const, value })),
  fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map((value) => ({ family: 6 as const, value })),
  // Runs of zero groups, which bigInt hardly ever makes.
  fc
    .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })
    .map((groups) => ({
      family: 6 as const,
      value: groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n),
    })),
);

describe("parseIp()", () => {
  it.each([
    ["0.0.0.0", 4, 0n],
    ["10.0.0.1", 4, 0x0a000001n],
    ["255.255.255.255", 4, 0xffffffffn],
    ["::", 6, 0n],
    ["::1", 6, 1n],
    ["FE80::A", 6, (0xfe80n << 112n) | 0xan],
    ["1::", 6, 1n << 112n],
    ["1:2:3:4:5:6:7::", 6, 0x00010002000300040005000600070000n],
    ["::ffff:10.0.0.1", 6, 0xffff0a000001n],
    ["64:ff9b::192.0.2.33", 6, (0x64ff9bn << 96n) | 0xc0000221n],
  ] as const)("reads %s", (text, family, value) => {
    expect(parseIp(text)).toEqual({ family, value });
  });

  it.each([
    "",
    " ",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "256.0.0.1",
    "01.2.3.4",
    "1.2.3.4 ",
    "0x1.2.3.4",
    "1.2.3.-4",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "::12345",
    "::g",
    "fe80::1%eth0",
    "1:2:3:4:5:6:7:8::",
    "::1.2.3",
    "1.2.3.4::",
    "1:2:3:4:5:6:7:1.2.3.4",
    "10.0.0.1/24",
    "١.2.3.4",
  ])("refuses %j and says so", (text) => {
    expect(() => parseIp(text)).toThrow(new RangeError(`Cannot parse IP address ${JSON.stringify(text)}`));
  });

  it("accepts what Node's own check accepts and nothing else", () => {
    const alphabet = fc.constantFrom(...Array.from("0123456789abcdefF::::...."));
    const text = fc.string({ unit: alphabet, maxLength: 24 });
    fc.assert(
      fc.property(fc.oneof(text, anyIp.map(formatIp)), (candidate) => {
        expect(tryParseIp(candidate)?.family ?? 0).toBe(isIP(candidate));
      }),
      { numRuns: 5000 },
    );
  });
});

describe("formatIp()", () => {
  // Examples of RFC 5952 sections 4 and 5.
  it.each([
    ["2001:0db8::0001", "2001:db8::1"],
    ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:DB8::ABCD", "2001:db8::abcd"],
    ["0:0:0:0:0:ffff:192.0.2.1", "::ffff:192.0.2.1"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["1:0:0:0:0:0:0:0", "1::"],
    ["255.255.255.255", "255.255.255.255"],
  ])("writes %s as %s", (from, to) => {
    expect(formatIp(parseIp(from))).toBe(to);
  });

  it("is undone by parseIp() and agrees with the URL standard", () => {
    fc.assert(
      fc.property(anyIp, (ip) => {
        const text = formatIp(ip);
        expect(parseIp(text)).toEqual(ip);
        if (isIPv6(text) && !text.includes("."))
          expect(new URL(`http://[${text}]`).hostname).toBe(`[${text}]`);
      }),
    );
  });
});

it("bytes and back give the same address", () => {
  expect([...ipToBytes(parseIp("10.0.2.255"))]).toEqual([10, 0, 2, 255]);
  fc.assert(
    fc.property(anyIp, (ip) => {
      expect(ipFromBytes(ipToBytes(ip))).toEqual(ip);
    }),
  );
  expect(() => ipFromBytes(new Uint8Array(5))).toThrow(
    "Cannot read IP address from 5 bytes: must be 4 or 16",
  );
});

it("addToIp() stays in the address space", () => {
  expect(formatIp(addToIp(parseIp("10.0.0.255"), 1))).toBe("10.0.1.0");
  expect(formatIp(addToIp(parseIp("10.0.0.0"), -1n))).toBe("9.255.255.255");
  expect(() => addToIp(parseIp("255.255.255.255"), 1)).toThrow(
    "Cannot add 1 to 255.255.255.255: beyond the IPv4 address space",
  );
  expect(() => addToIp(parseIp("::"), -1)).toThrow(RangeError);
});

it("sorts IPv4 before IPv6 and both by number", () => {
  const sorted = ["::1", "10.0.0.2", "9.0.0.1", "::"].map(parseIp).sort(compareIp).map(formatIp);
  expect(sorted).toEqual(["9.0.0.1", "10.0.0.2", "::", "::1"]);
});

it.each([
  [isLoopback, ["127.0.0.1", "127.255.255.255", "::1"], ["126.255.255.255", "128.0.0.0", "::2", "::"]],
  [isMulticast, ["224.0.0.0", "239.255.255.255", "ff02::1"], ["223.255.255.255", "240.0.0.0", "fe80::1"]],
  [isLinkLocal, ["169.254.0.1", "fe80::1", "febf::1"], ["169.253.0.1", "fec0::1", "fe7f::1"]],
] as const)("%o knows its range", (predicate, inside, outside) => {
  for (const text of inside) expect(predicate(parseIp(text)), text).toBe(true);
  for (const text of outside) expect(predicate(parseIp(text)), text).toBe(false);
});
