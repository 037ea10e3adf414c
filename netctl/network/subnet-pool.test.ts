import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatCidr, networkOf, overlaps, parseCidr } from "#net/cidr.ts";
import { addToIp, parseIp } from "#net/ip.ts";
import { defaultPools, measurePool, pickSubnet, uniqueLocalSubnet } from "./subnet-pool.ts";

const used = (...texts: string[]) => texts.map(parseCidr);
const picked = (...texts: string[]) => {
  const cidr = pickSubnet(defaultPools, used(...texts));
  return cidr === undefined ? undefined : formatCidr(cidr);
};

describe("pickSubnet()", () => {
  it("starts where Docker starts", () => {
    expect(picked()).toBe("172.17.0.0/16");
  });

  it("passes over what is used, whole or in part, and fills gaps first", () => {
    expect(picked("172.17.0.0/16")).toBe("172.18.0.0/16");
    expect(picked("172.17.0.0/16", "172.19.0.0/16")).toBe("172.18.0.0/16");
    expect(picked("172.16.0.0/12")).toBe("192.168.0.0/20");
    expect(picked("172.17.9.1/32", "172.18.0.0/30", "172.19.255.0/24")).toBe("172.20.0.0/16");
  });

  it("does not mind the other family", () => {
    expect(picked("::/0")).toBe("172.17.0.0/16");
  });

  it("hands out 31 networks that do not overlap, then none", () => {
    const taken = used();
    for (
      let next = pickSubnet(defaultPools, taken);
      next !== undefined;
      next = pickSubnet(defaultPools, taken)
    ) {
      taken.push(next);
    }
    expect(taken).toHaveLength(31);
    for (const [index, a] of taken.entries()) {
      for (const b of taken.slice(index + 1)) expect(overlaps(a, b)).toBe(false);
    }
  });
});

describe("a pool", () => {
  const pool = (base: string, size: number) => ({ base: parseCidr(base), size });
  const pick = (base: string, size: number, ...texts: string[]) => {
    const cidr = pickSubnet([pool(base, size)], used(...texts));
    return cidr && formatCidr(cidr);
  };

  it("of 2^56 pieces costs no more than one of sixteen, also where half of it is one route", () => {
    expect(pick("fd00::/8", 64)).toBe("fd00::/64");
    expect(pick("fd00::/8", 64, "fd00::/9", "fd80::/64")).toBe("fd80:0:0:1::/64");
    expect(pick("10.0.0.0/8", 24, "10.0.0.0/9", "10.128.0.5/32", "10.128.1.0/24")).toBe("10.128.2.0/24");
    expect(pick("10.0.0.0/8", 24, "0.0.0.0/0")).toBeUndefined();
  });

  it("gives pieces of the size that is asked for", () => {
    const small = pickSubnet([pool("10.0.0.0/30", 30), pool("10.9.0.0/16", 20)], used("10.9.0.0/24"), 24);
    expect(small && formatCidr(small)).toBe("10.9.1.0/24");
  });

  it("finds as the first free piece what a search through all of them finds", () => {
    const some = fc.record({ offset: fc.nat(1023), prefixLength: fc.integer({ min: 22, max: 32 }) });
    fc.assert(
      fc.property(fc.array(some, { maxLength: 12 }), (list) => {
        const taken = list.map(({ offset, prefixLength }) =>
          networkOf({ address: addToIp(parseIp("10.0.0.0"), offset), prefixLength }),
        );
        const pieces = Array.from({ length: 16 }, (_, index) =>
          parseCidr(`10.0.${index >> 2}.${(index & 3) * 64}/26`),
        );
        const free = pieces.filter((piece) => !taken.some((cidr) => overlaps(piece, cidr)));
        expect(pickSubnet([pool("10.0.0.0/22", 26)], taken)).toEqual(free[0]);
        expect(measurePool(pool("10.0.0.0/22", 26), taken)).toEqual({
          total: 16n,
          used: BigInt(16 - free.length),
        });
      }),
    );
  });
});

describe("uniqueLocalSubnet()", () => {
  it("puts the random bits behind fd", () => {
    expect(formatCidr(uniqueLocalSubnet(Uint8Array.of(0x12, 0x34, 0x56, 0x78, 0x9a)))).toBe(
      "fd12:3456:789a::/64",
    );
  });

  it("is always in fd00::/8", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 5, maxLength: 5 }), (random) => {
        expect(overlaps(uniqueLocalSubnet(random), parseCidr("fd00::/8"))).toBe(true);
      }),
    );
  });
});
