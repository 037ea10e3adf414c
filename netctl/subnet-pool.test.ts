import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatCidr, overlaps, parseCidr } from "#net/cidr.ts";
import { defaultPools, pickSubnet, uniqueLocalSubnet } from "./subnet-pool.ts";

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
