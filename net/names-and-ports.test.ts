import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseIfName } from "./ifname.ts";
import { isMulticastMac, macFromBytes, macToBytes, parseMac, randomMac } from "./mac.ts";
import { parsePort } from "./port.ts";

describe("parseMac()", () => {
  it.each(["02:42:0A:00:00:01", "02-42-0a-00-00-01", "0242.0a00.0001"])("reads %s", (text) => {
    expect(parseMac(text)).toBe("02:42:0a:00:00:01");
  });

  it.each([
    "",
    "02:42:0a:00:00",
    "02:42:0a:00:00:0g",
    "02:42-0a:00:00:01",
    "02:42:0a:00:00:01:02",
    "2:42:a:0:0:1",
  ])("refuses %j", (text) => {
    expect(() => parseMac(text)).toThrow(`Cannot parse MAC address ${JSON.stringify(text)}`);
  });

  it("undoes macFromBytes()", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
        expect(macToBytes(parseMac(macFromBytes(bytes)))).toEqual(bytes);
      }),
    );
  });
});

it("randomMac() is locally administered, unicast and not the same twice", () => {
  const macs = Array.from({ length: 200 }, randomMac);
  expect(macs.every((mac) => ((macToBytes(mac)[0] ?? 0) & 3) === 2 && !isMulticastMac(mac))).toBe(true);
  expect(new Set(macs).size).toBe(200);
});

describe("parseIfName()", () => {
  it.each(["a", "eth0", "fifteen-bytes-x", "eth0.100", "-", "...", "ééééééé"])("accepts %j", (name) => {
    expect(parseIfName(name)).toBe(name);
  });

  it.each([
    ["", "interface name is empty"],
    ["sixteen-bytes-xx", "interface name is too long"],
    ["éééééééé", "interface name is too long"],
    [".", "interface name is . or .."],
    ["..", "interface name is . or .."],
    ["a/b", "interface name contains / or : or whitespace characters"],
    ["a:b", "interface name contains / or : or whitespace characters"],
    ["a b", "interface name contains / or : or whitespace characters"],
    ["a\tb", "interface name contains / or : or whitespace characters"],
    ["a\u00a0b", "interface name contains / or : or whitespace characters"],
    ["a\u0085b", "interface name contains / or : or whitespace characters"],
    ["a\0b", "interface name contains a zero byte"],
    ["eth%d", "interface name contains %"],
    ["all", "interface name is all, which the kernel keeps for itself"],
    ["default", "interface name is default, which the kernel keeps for itself"],
  ])("refuses %j: %s", (name, why) => {
    expect(() => parseIfName(name)).toThrow(`Cannot use ${JSON.stringify(name)} as interface name: ${why}`);
  });
});

it("parsePort() takes 1 to 65535, as number or text", () => {
  expect([1, 65535, "1", "65535", "80"].map(parsePort)).toEqual([1, 65535, 1, 65535, 80]);
  for (const bad of [0, 65536, -1, 1.5, Number.NaN, "", "0", "080", "80 ", "0x50", "1e3", "65536"]) {
    expect(() => parsePort(bad), String(bad)).toThrow(RangeError);
  }
});
