import { describe, expect, it } from "vitest";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import { UsageFailure } from "#netctl/failure.ts";
import { type NetworkWords, parseNetworkDefinition, plainNetwork } from "./definition.ts";
import { spansOf } from "./subnets.ts";

const words = (changes: Partial<NetworkWords>): NetworkWords => ({
  ...plainNetwork,
  name: "web",
  ...changes,
});
const parse = (changes: Partial<NetworkWords>) => parseNetworkDefinition(words(changes));

describe("parseNetworkDefinition()", () => {
  it("asks for nothing but a name", () => {
    expect(parse({})).toEqual({
      name: "web",
      driver: "bridge",
      subnets: [],
      ipv4: true,
      ipv6: false,
      internal: false,
      settings: {},
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
      range && formatCidr(range),
    ]);
    expect(texts).toEqual([
      ["10.1.0.0/16", "10.1.0.254", "10.1.255.0/24"],
      ["fd01::/64", "fd01::9", "fd01::ff00/120"],
    ]);
    expect(ipv6).toBe(true);
  });

  const spans = (changes: Partial<NetworkWords>) =>
    parse(changes).subnets.map((subnet) =>
      spansOf(subnet).map(({ first, last }) => `${formatIp(first)} ${formatIp(last)}`),
    );

  it("keeps a subnet's first and last address out of a range that covers it", () => {
    expect(spans({ subnets: ["10.1.0.0/24"], ipRanges: ["10.1.0.0/24"] })).toEqual([["10.1.0.1 10.1.0.254"]]);
    expect(
      spans({ subnets: ["10.1.0.0/16", "fd01::/64"], ipRanges: ["10.1.255.0/24", "fd01::ff00/120"] }),
    ).toEqual([["10.1.255.0 10.1.255.254"], ["fd01::ff00 fd01::ffff"]]);
  });

  it("leaves auxiliary addresses out", () => {
    const auxAddresses = ["router=10.1.0.5", "printer=10.1.0.1", "outside=10.1.0.200", "last=10.1.0.127"];
    expect(spans({ subnets: ["10.1.0.0/24"], ipRanges: ["10.1.0.0/25"], auxAddresses })).toEqual([
      ["10.1.0.2 10.1.0.4", "10.1.0.6 10.1.0.126"],
    ]);
    expect(spans({ subnets: ["10.1.0.0/30"] })).toEqual([["10.1.0.1 10.1.0.2"]]);
  });

  it("has the families that were asked for", () => {
    const families = (changes: Partial<NetworkWords>) => {
      const { ipv4, ipv6 } = parse(changes);
      return { ipv4, ipv6 };
    };
    expect(families({ ipv6: true })).toEqual({ ipv4: true, ipv6: true });
    expect(families({ ipv4: false, ipv6: true })).toEqual({ ipv4: false, ipv6: true });
    expect(families({ subnets: ["fd01::/64"] })).toEqual({ ipv4: false, ipv6: true });
    expect(families({ subnets: ["::/80"] })).toEqual({ ipv4: false, ipv6: true });
    expect(families({ options: ["com.docker.network.enable_ipv6=true"] })).toEqual({
      ipv4: true,
      ipv6: true,
    });
  });

  it("understands options under Docker's and Podman's names", () => {
    const options = [
      "com.docker.network.bridge.name=br0",
      "mtu=9000",
      "vlan=7",
      "com.docker.network.bridge.enable_ip_masquerade=0",
    ];
    expect(parse({ options }).settings).toEqual({ bridgeName: "br0", mtu: 9000, vlan: 7, masquerade: false });
    const docker = [
      "driver.mtu=1400",
      "bridge.enable_icc=false",
      "bridge.gateway_mode_ipv4=routed",
      "bridge.gateway_mode_ipv6=nat-unprotected",
      "bridge.host_binding_ipv4=127.0.0.1",
      "bridge.trusted_host_interfaces=eth1:wg0",
      "host_ipv4=192.0.2.7",
      "host_ipv6=2001:db8::7",
      "container_iface_prefix=net",
    ].map((text) => `com.docker.network.${text}`);
    expect(parse({ options: docker, ipv6: true }).settings).toEqual({
      mtu: 1400,
      icc: false,
      gatewayMode: { ipv4: "routed", ipv6: "nat-unprotected" },
      hostBinding: { ipv4: "127.0.0.1" },
      trustedInterfaces: ["eth1", "wg0"],
      snat: { ipv4: "192.0.2.7", ipv6: "2001:db8::7" },
      interfacePrefix: "net",
    });
    const short = ["icc=false", "masquerade=false", "isolate=strict", "no_default_route=1"];
    expect(parse({ options: short }).settings).toEqual({
      icc: false,
      masquerade: false,
      networkIsolation: true,
      noDefaultRoute: true,
    });
  });

  it("prefers an option of the command line to the host's default", () => {
    const defaultOptions = { mtu: "1400", icc: "false" };
    expect(parse({ options: ["mtu=9000"], defaultOptions }).settings).toEqual({ mtu: 9000, icc: false });
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
    [{ driver: "brigde" }, 'Cannot use driver "brigde": expected one of bridge, macvlan, ipvlan, host, none'],
    [{ driver: "none", internal: true }, "Cannot use --internal with driver none"],
    [{ ipv4: false }, "without IPv4 and without IPv6"],
    [{ ipv4: false, ipv6: true, subnets: ["10.1.0.0/24"] }, "Cannot use an IPv4 --subnet without IPv4"],
    [{ subnets: ["0.0.0.0/0"] }, "it is all there is"],
    [{ subnets: ["0.0.0.0/24"], gateways: ["10.1.0.1"] }, "no matching subnet"],
    [{ subnets: ["10.1.0.0/24"], auxAddresses: ["10.1.0.5"] }, "expected NAME=ADDRESS"],
    [{ subnets: ["10.1.0.0/24"], auxAddresses: ["a=10.2.0.5"] }, "no matching subnet for it"],
    [
      { subnets: ["10.1.0.0/24"], auxAddresses: ["a=10.1.0.5", "b=10.1.0.5"] },
      "a=10.1.0.5 was given already",
    ],
    [{ subnets: ["10.1.0.0/30"], auxAddresses: ["a=10.1.0.2"] }, "leave no address for a container"],
    [{ options: ["gateway_mode_ipv4=bridge"] }, "expected one of nat, nat-unprotected, routed, isolated"],
    [{ options: ["gateway_mode_ipv4=isolated"] }, "without --internal"],
    [{ options: ["host_ipv4=fd00::1"] }, "expected an IPv4 address"],
    [{ options: ["host_ipv4=127.0.0.1"] }, "expected an address that others can answer to"],
    [{ options: ["host_ipv6=2001:db8::1"] }, "in a network without IPv6; add --ipv6"],
    [{ internal: true, options: ["host_ipv4=192.0.2.1"] }, "with --internal: nothing leaves under it"],
    [{ options: ["masquerade=false", "host_ipv4=192.0.2.1"] }, "without masquerade"],
    [{ internal: true, options: ["host_binding_ipv4=127.0.0.1"] }, "nothing is published there"],
    [{ ipv6: true, options: ["com.docker.network.bridge.inhibit_ipv4=true"] }, "inhibit_ipv4=true with IPv6"],
    [{ options: ["trusted_host_interfaces=eth0:a/b"] }, "Cannot use option trusted_host_interfaces=eth0:a/b"],
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
