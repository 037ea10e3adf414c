import * as fc from "fast-check";
import IpCidr from "ip-cidr";
import { describe, expect, it } from "vitest";
import {
  type Cidr,
  containsIp,
  equalCidr,
  firstIp,
  formatCidr,
  hasHostBits,
  hostCidr,
  isDefaultRoute,
  lastIp,
  networkOf,
  overlaps,
  parseCidr,
} from "./cidr.ts";
import { formatIp, ipBits, parseIp } from "./ip.ts";

const anyCidr: fc.Arbitrary<Cidr> = fc.constantFrom(4 as const, 6 as const).chain((family) =>
  fc.record({
    address: fc
      .bigInt({ min: 0n, max: 2n ** BigInt(ipBits(family)) - 1n })
      .map((value) => ({ family, value })),
    prefixLength: fc.integer({ min: 0, max: ipBits(family) }),
  }),
);

describe("parseCidr()", () => {
  it("keeps host bits", () => {
    expect(formatCidr(parseCidr("10.1.2.3/24"))).toBe("10.1.2.3/24");
    expect(formatCidr(parseCidr("FD00::1/64"))).toBe("fd00::1/64");
  });

  it.each([
    ["10.0.0.0/33", "prefix length must be 0 to 32"],
    ["fd00::/129", "prefix length must be 0 to 128"],
    ["10.0.0.0/08", "prefix length must be 0 to 32"],
    ["10.0.0.0/", "prefix length must be 0 to 32"],
    ["10.0.0.0/-1", "prefix length must be 0 to 32"],
    ["10.0.0.0/8/8", "prefix length must be 0 to 32"],
    ["10.0.0.0", "prefix length is missing"],
    ["", "prefix length is missing"],
    ["10.0.0/8", '"10.0.0" is not an IP address'],
    ["/8", '"" is not an IP address'],
  ])("refuses %j: %s", (text, why) => {
    expect(() => parseCidr(text)).toThrow(
      new RangeError(`Cannot parse CIDR ${JSON.stringify(text)}: ${why}`),
    );
  });

  it("undoes formatCidr()", () => {
    fc.assert(
      fc.property(anyCidr, (cidr) => {
        expect(parseCidr(formatCidr(cidr))).toEqual(cidr);
      }),
    );
  });
});

it("first and last address agree with ip-cidr", () => {
  fc.assert(
    fc.property(anyCidr, (cidr) => {
      const witness = new IpCidr(formatCidr(cidr));
      expect(formatIp(firstIp(cidr))).toBe(formatIp(parseIp(witness.start())));
      expect(formatIp(lastIp(cidr))).toBe(formatIp(parseIp(witness.end())));
    }),
  );
});

it("networkOf() clears the host bits", () => {
  expect(formatCidr(networkOf(parseCidr("10.1.2.3/20")))).toBe("10.1.0.0/20");
  expect(hasHostBits(parseCidr("10.1.2.3/24"))).toBe(true);
  expect(hasHostBits(parseCidr("10.1.2.0/24"))).toBe(false);
  expect(hasHostBits(parseCidr("10.1.2.3/32"))).toBe(false);
});

it("containsIp() holds at both ends and not beyond, nor for the other family", () => {
  const subnet = parseCidr("10.0.1.0/24");
  expect(["10.0.1.0", "10.0.1.255"].every((ip) => containsIp(subnet, parseIp(ip)))).toBe(true);
  expect(["10.0.0.255", "10.0.2.0", "::a00:100"].some((ip) => containsIp(subnet, parseIp(ip)))).toBe(false);
  expect(containsIp(parseCidr("::/0"), parseIp("10.0.0.1"))).toBe(false);
});

it("overlaps() is true for subnets of each other, in any order", () => {
  const pairs: [string, string, boolean][] = [
    ["10.0.0.0/8", "10.255.0.0/16", true],
    ["10.0.0.0/24", "10.0.1.0/24", false],
    ["10.0.0.7/24", "10.0.0.9/24", true],
    ["0.0.0.0/0", "::/0", false],
  ];
  for (const [a, b, expected] of pairs) {
    expect(overlaps(parseCidr(a), parseCidr(b)), `${a} ${b}`).toBe(expected);
    expect(overlaps(parseCidr(b), parseCidr(a)), `${b} ${a}`).toBe(expected);
  }
});

it("hostCidr() is the address alone", () => {
  expect(formatCidr(hostCidr(parseIp("10.0.0.1")))).toBe("10.0.0.1/32");
  expect(formatCidr(hostCidr(parseIp("::1")))).toBe("::1/128");
  expect(equalCidr(hostCidr(parseIp("10.0.0.1")), parseCidr("10.0.0.1/32"))).toBe(true);
  expect(equalCidr(parseCidr("10.0.0.1/24"), parseCidr("10.0.0.2/24"))).toBe(false);
});

it("only /0 of the zero address is a default route", () => {
  expect(["0.0.0.0/0", "::/0"].map(parseCidr).every(isDefaultRoute)).toBe(true);
  expect(["0.0.0.0/1", "10.0.0.0/0"].map(parseCidr).some(isDefaultRoute)).toBe(false);
});
