import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { containsIp, lastIp, parseCidr } from "#net/cidr.ts";
import { addToIp, equalIp, formatIp, parseIp } from "#net/ip.ts";
import { assignRequested, candidates } from "./pool.ts";
import { completeRangeSet, type RangeSet, rangeContains } from "./range.ts";

const range = (subnet: string, start?: string, end?: string, gateway?: string) => ({
  subnet: parseCidr(subnet),
  rangeStart: start ? parseIp(start) : undefined,
  rangeEnd: end ? parseIp(end) : undefined,
  gateway: gateway ? parseIp(gateway) : undefined,
});

function order(set: RangeSet, last?: string, limit = 1000): string[] {
  const texts: string[] = [];
  for (const { ip } of candidates(set, last === undefined ? undefined : parseIp(last))) {
    if (texts.length === limit) break;
    texts.push(formatIp(ip));
  }
  return texts;
}

describe("candidates()", () => {
  const small = completeRangeSet([range("10.1.0.0/29")]);
  const two = completeRangeSet([
    range("10.1.0.0/24", "10.1.0.10", "10.1.0.12"),
    range("10.2.0.0/24", "10.2.0.1", "10.2.0.3"),
  ]);

  test("begin at the start and pass over the gateway", () => {
    expect(order(small)).toEqual(["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
  });

  test("go on after the last one, and end with it", () => {
    expect(order(small, "10.1.0.4")).toEqual(["10.1.0.5", "10.1.0.6", "10.1.0.2", "10.1.0.3", "10.1.0.4"]);
    expect(order(small, "10.1.0.6")).toEqual(order(small));
  });

  test("begin at the start if the last one is of another range", () => {
    expect(order(small, "10.9.9.9")).toEqual(order(small));
    expect(order(small, "fd00::1")).toEqual(order(small));
  });

  test("go through all ranges of the set", () => {
    expect(order(two, "10.1.0.11")).toEqual(["10.1.0.12", "10.2.0.2", "10.2.0.3", "10.1.0.10", "10.1.0.11"]);
    expect(order(two, "10.2.0.3")).toEqual(order(two));
  });

  test("never are the network's own or its broadcast address, though the range has them", () => {
    const all = completeRangeSet([range("10.1.0.0/29", "10.1.0.0", "10.1.0.7", "10.1.0.4")]);
    expect(order(all)).toEqual(["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.5", "10.1.0.6"]);
    const v6 = completeRangeSet([range("fd00::/126", "fd00::", "fd00::3")]);
    expect(order(v6)).toEqual(["fd00::2", "fd00::3"]);
  });

  test("of a /8 and of a /64 are there at once, wherever one begins", () => {
    expect(order(completeRangeSet([range("10.0.0.0/8")]), "10.255.255.253", 2)).toEqual([
      "10.255.255.254",
      "10.0.0.2",
    ]);
    expect(order(completeRangeSet([range("fd00::/64")]), "fd00::ffff:ffff:ffff:fffe", 2)).toEqual([
      "fd00::ffff:ffff:ffff:ffff",
      "fd00::2",
    ]);
  });

  test("are each address of the ranges once, in any configuration", () => {
    const subnets = fc.record({
      third: fc.integer({ min: 0, max: 3 }),
      length: fc.integer({ min: 26, max: 30 }),
      isV6: fc.boolean(),
      from: fc.nat(63),
      to: fc.nat(63),
      gateway: fc.nat(63),
    });
    fc.assert(
      fc.property(fc.array(subnets, { minLength: 1, maxLength: 3 }), fc.nat(200), (specs, lastOffset) => {
        let set: RangeSet;
        try {
          set = completeRangeSet(
            specs.map(({ third, length, isV6, from, to, gateway }) => {
              const subnet = parseCidr(
                isV6 ? `fd00:0:0:${third}::/${length + 96}` : `10.1.${third}.0/${length}`,
              );
              const at = (offset: number) => addToIp(subnet.address, offset);
              return { subnet, rangeStart: at(from), rangeEnd: at(to), gateway: at(gateway) };
            }),
          );
        } catch (error) {
          if (error instanceof RangeError) return;
          throw error;
        }
        const [first] = set;
        if (!first) throw new Error("an empty set was accepted");
        const given = [...candidates(set, addToIp(first.subnet.address, lastOffset))].map(({ ip }) => ip);
        expect(new Set(given.map((ip) => formatIp(ip))).size).toBe(given.length);
        for (const ip of given) {
          const home = set.find((each) => rangeContains(each, ip));
          expect(home && containsIp(home.subnet, ip)).toBe(true);
          for (const { gateway, subnet } of set) {
            expect(equalIp(ip, gateway) || equalIp(ip, subnet.address)).toBe(false);
            if (ip.family === 4) expect(equalIp(ip, lastIp(subnet))).toBe(false);
          }
        }
        // None is forgotten either: at most gateway, network and broadcast address of each range are.
        const sizes = set.map(({ start, end }) => Number(end.value - start.value) + 1);
        const total = sizes.reduce((sum, size) => sum + size, 0);
        expect(given.length).toBeGreaterThanOrEqual(total - 3 * set.length);
      }),
      { numRuns: 500 },
    );
  });
});

describe("assignRequested()", () => {
  const v4 = completeRangeSet([range("10.1.0.0/24")]);
  const other = completeRangeSet([range("10.2.0.0/24")]);
  const ip = parseIp;

  test("gives each set one of its own", () => {
    const { perSet, left } = assignRequested([v4, other], [ip("10.2.0.7"), ip("10.1.0.9")]);
    expect(perSet).toEqual([ip("10.1.0.9"), ip("10.2.0.7")]);
    expect(left).toEqual([]);
  });

  test("leaves over what is in no set, or the second of one set, but not one asked for twice", () => {
    const requested = ["10.1.0.9", "10.1.0.9", "10.1.0.10", "10.3.0.1"].map((text) => ip(text));
    const { perSet, left } = assignRequested([v4, other], requested);
    expect(perSet).toEqual([ip("10.1.0.9"), undefined]);
    expect(left).toEqual([ip("10.1.0.10"), ip("10.3.0.1")]);
  });
});
