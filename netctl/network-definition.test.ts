import { describe, expect, it } from "vitest";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import { UsageFailure } from "./failure.ts";
import { type NetworkWords, parseNetworkDefinition } from "./network-definition.ts";

const words = (changes: Partial<NetworkWords>): NetworkWords => ({
  name: "web",
  driver: "bridge",
  subnets: [],
  gateways: [],
  ipRanges: [],
  options: [],
  labels: [],
  ipv6: false,
  internal: false,
  ...changes,
});
const parse = (changes: Partial<NetworkWords>) => parseNetworkDefinition(words(changes));

describe("parseNetworkDefinition()", () => {
  it("asks for nothing but a name", () => {
    expect(parse({})).toEqual({
      name: "web",
      driver: "bridge",
      subnets: [],
      ipv6: false,
      masquerade: true,
      options: {},
      labels: {},
    });
  });

  it("gives each subnet the gateway and the range that are in it, in any order", () => {
    const { subnets, ipv6 } = parse({
      subnets: ["10.1.0.0/16", "fd01::/64"],
      gateways: ["fd01::9", "10.1.0.254"],
      ipRanges: ["fd01::ff00/120", "10.1.255.0/24"],
    });
    const texts = subnets.map(({ subnet, gateway, range }) => [
      formatCidr(subnet),
      gateway && formatIp(gateway),
      range && `${formatIp(range.first)} ${formatIp(range.last)}`,
    ]);
    expect(texts).toEqual([
      ["10.1.0.0/16", "10.1.0.254", "10.1.255.0 10.1.255.254"],
      ["fd01::/64", "fd01::9", "fd01::ff00 fd01::ffff"],
    ]);
    expect(ipv6).toBe(true);
  });

  it("keeps a subnet's first and last address out of a range that covers it", () => {
    const [subnet] = parse({ subnets: ["10.1.0.0/24"], ipRanges: ["10.1.0.0/24"] }).subnets;
    expect(subnet?.range && [formatIp(subnet.range.first), formatIp(subnet.range.last)]).toEqual([
      "10.1.0.1",
      "10.1.0.254",
    ]);
  });

  it("understands options under Docker's and Podman's names", () => {
    const options = [
      "com.docker.network.bridge.name=br0",
      "mtu=9000",
      "vlan=7",
      "com.docker.network.bridge.enable_ip_masquerade=0",
    ];
    expect(parse({ options })).toMatchObject({ bridgeName: "br0", mtu: 9000, vlan: 7, masquerade: false });
    expect(parse({ options: ["com.docker.network.driver.mtu=1400"] }).mtu).toBe(1400);
  });

  it("keeps labels as they are, with = in the value and without one", () => {
    expect(parse({ labels: ["a=b=c", "empty=", "bare", "__proto__=x"] }).labels).toEqual({
      a: "b=c",
      empty: "",
      bare: "",
      ["__proto__"]: "x",
    });
  });

  it.each<[Partial<NetworkWords>, string]>([
    [{ name: "a/b" }, 'Cannot name a network "a/b"'],
    [{ name: "-a" }, 'Cannot name a network "-a"'],
    [{ name: "a".repeat(129) }, "at most 128"],
    [{ driver: "brigde" }, 'Cannot use driver "brigde": expected one of bridge, host, none'],
    [{ internal: true }, "Cannot use --internal"],
    [{ subnets: ["10.1.0.0"] }, "Cannot use --subnet 10.1.0.0: "],
    [{ subnets: ["10.1.0.5/24"] }, "Cannot use --subnet 10.1.0.5/24: it should be 10.1.0.0/24"],
    [{ subnets: ["10.1.0.0/31"] }, "too small"],
    [{ subnets: ["fd01::/127"] }, "too small"],
    [{ subnets: ["10.1.0.0/24", "10.2.0.0/24"] }, "one IPv4 subnet"],
    [{ gateways: ["10.1.0.1"] }, "no matching subnet for it; give --subnet too"],
    [
      { subnets: ["10.1.0.0/24"], gateways: ["10.2.0.1"] },
      "no matching subnet for it; the subnets are 10.1.0.0/24",
    ],
    [{ subnets: ["10.1.0.0/24"], gateways: ["10.1.0.0"] }, "no matching subnet"],
    [{ subnets: ["10.1.0.0/24"], gateways: ["10.1.0.255"] }, "no matching subnet"],
    [
      { subnets: ["10.1.0.0/24"], gateways: ["10.1.0.1", "10.1.0.2"] },
      "Cannot use --gateway twice for subnet 10.1.0.0/24",
    ],
    [
      { subnets: ["10.1.0.0/24"], ipRanges: ["10.1.0.0/23"] },
      "Cannot use --ip-range 10.1.0.0/23: no matching subnet",
    ],
    [{ options: ["com.docker.network.bridge.nam=br0"] }, "known are com.docker.network.bridge.name"],
    [{ options: ["constructor=1"] }, 'Cannot use option "constructor"'],
    [{ options: ["com.docker.network.bridge.name=a-name-too-long-for-it"] }, "too long"],
    [{ options: ["mtu=67"] }, "Cannot use option mtu=67: expected a number from 68 to 65535"],
    [{ options: ["mtu=1e3"] }, "expected a number"],
    [{ options: ["vlan=4095"] }, "expected a number from 1 to 4094"],
    [{ options: ["com.docker.network.bridge.enable_ip_masquerade=yes"] }, "expected true or false"],
    [{ labels: ["=x"] }, 'Cannot use label "=x": expected KEY=VALUE'],
    [{ driver: "none", subnets: ["10.1.0.0/24"] }, "Cannot use --subnet 10.1.0.0/24 with driver none"],
    [{ driver: "host", ipv6: true }, "Cannot use --ipv6 with driver host"],
  ])("refuses %j", (changes, message) => {
    expect(() => parse(changes)).toThrow(UsageFailure);
    expect(() => parse(changes)).toThrow(message);
  });
});
