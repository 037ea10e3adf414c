import { describe, expect, it } from "vitest";
import { formatCidr } from "#net/cidr.ts";
import { parseSettings } from "./settings.ts";

const pools = (text: string) =>
  parseSettings(text).pools.map(({ base, size }) => `${formatCidr(base)} ${size}`);

describe("parseSettings()", () => {
  it("has Docker's pools where nothing is set", () => {
    expect(pools("{}")).toHaveLength(7);
    expect(parseSettings("{}").networkOptions).toEqual({});
  });

  it("takes the pools of a daemon.json, and keeps the defaults of a family that is not named", () => {
    const text =
      '{"default-address-pools":[{"base":"10.200.0.0/16","size":24},{"base":"10.9.0.0/20","size":26}]}';
    expect(pools(text)).toEqual(["10.200.0.0/16 24", "10.9.0.0/20 26"]);
    const ipv6 = pools('{"default-address-pools":[{"base":"fd12::/48","size":64}]}');
    expect(ipv6[0]).toBe("fd12::/48 64");
    expect(ipv6).toHaveLength(8);
  });

  it("reads options by driver", () => {
    const text = '{"default-network-opts":{"bridge":{"com.docker.network.driver.mtu":"1400"}}}';
    expect(parseSettings(text).networkOptions).toEqual({
      bridge: { "com.docker.network.driver.mtu": "1400" },
    });
  });

  it.each([
    ["{", "JSON"],
    ["[]", "must be an object"],
    [
      '{"default-address-pools":[{"base":"10.0.0.1/8","size":24}]}',
      "[0].base 10.0.0.1/8 should be 10.0.0.0/8",
    ],
    ['{"default-address-pools":[{"base":"10.0.0.0/16","size":8}]}', "[0].size 8 must be 16 to 30"],
    ['{"default-address-pools":[{"base":"fd00::/8","size":127}]}', "[0].size 127 must be 8 to 126"],
    ['{"default-address-pools":[{"base":"10.0.0.0/16"}]}', "size is missing"],
    ['{"default-address-pools":[{"base":"ten","size":24}]}', "base"],
    ['{"default-network-opts":{"bridge":{"mtu":1400}}}', "mtu"],
  ])("refuses %s", (text, message) => {
    expect(() => parseSettings(text)).toThrow(message);
  });
});
