import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CniError } from "#cni/error.ts";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { parseBridgeConfig } from "./config.ts";

function network(json: JsonObject): NetworkConfig {
  const object = (value: unknown) => (isJsonObject(value) ? value : {});
  return {
    cniVersion: "1.0.0",
    name: "net1",
    type: "bridge",
    json: { cniVersion: "1.0.0", name: "net1", type: "bridge", ...json },
    runtimeConfig: object(field(json, "runtimeConfig")),
    cniArgs: object(field(object(field(json, "args")), "cni")),
  };
}

function refusal(json: JsonObject, args: readonly (readonly [string, string])[] = []): CniError {
  try {
    parseBridgeConfig(network(json), args);
  } catch (error) {
    expect(error).toBeInstanceOf(CniError);
    return error as CniError;
  }
  throw new Error(`${JSON.stringify(json)} was accepted`);
}

test("defaults are those of the reference plugin", () => {
  expect(parseBridgeConfig(network({}))).toEqual({
    bridge: "cni0",
    isGateway: false,
    isDefaultGateway: false,
    forceAddress: false,
    severalSubnets: false,
    hairpin: false,
    promiscuous: false,
    vlanTrunk: [],
    preserveDefaultVlan: false,
    macSpoofCheck: false,
    ipSpoofCheck: false,
    duplicateAddressDetection: false,
    portIsolation: false,
    containerInterfaceUp: true,
    isolation: {
      internal: false,
      icc: true,
      gatewayMode: { 4: "open", 6: "open" },
      networkIsolation: false,
      snat: {},
      trustedInterfaces: [],
    },
  });
});

test("isDefaultGateway implies isGateway, whatever that says", () => {
  expect(parseBridgeConfig(network({ isDefaultGateway: true, isGateway: false }))).toMatchObject({
    isGateway: true,
    isDefaultGateway: true,
  });
});

test("keys match in any case, as Go's decoder has it", () => {
  expect(
    parseBridgeConfig(network({ BRIDGE: "br7", IsGateway: true, Ipam: { Type: "static" } })),
  ).toMatchObject({
    bridge: "br7",
    isGateway: true,
    ipamType: "static",
  });
});

test("an empty ipam type means layer 2", () => {
  expect(parseBridgeConfig(network({ ipam: {} })).ipamType).toBeUndefined();
  expect(parseBridgeConfig(network({ ipam: { type: "" } })).ipamType).toBeUndefined();
});

test("both masquerade backends are served by nftables unless the operator insists", () => {
  expect(parseBridgeConfig(network({ ipMasq: true })).masquerade).toBe("nftables");
  expect(parseBridgeConfig(network({ ipMasq: true, ipMasqBackend: "iptables" })).masquerade).toBe("nftables");
  expect(
    parseBridgeConfig(network({ ipMasq: true, ipMasqBackend: "iptables", insistOnBackend: true })).masquerade,
  ).toBe("iptables");
  expect(parseBridgeConfig(network({ ipMasqBackend: "iptables" })).masquerade).toBeUndefined();
});

test("vlanTrunk takes ids and ranges", () => {
  const json = { vlanTrunk: [{ id: 7 }, { minID: 100, maxID: 200 }, { id: 9, minID: 1, maxID: 1 }] };
  expect(parseBridgeConfig(network(json)).vlanTrunk).toEqual([
    { first: 7, last: 7 },
    { first: 100, last: 200 },
    { first: 1, last: 1 },
    { first: 9, last: 9 },
  ]);
});

describe("mac", () => {
  const fromEnvironment = [["MAC", "02:00:00:00:00:01"]] as const;

  test("runtimeConfig wins over args.cni, and that over CNI_ARGS", () => {
    expect(parseBridgeConfig(network({}), fromEnvironment).mac).toBe("02:00:00:00:00:01");
    const args = { args: { cni: { mac: "02:00:00:00:00:02" } } };
    expect(parseBridgeConfig(network(args), fromEnvironment).mac).toBe("02:00:00:00:00:02");
    const all = { ...args, runtimeConfig: { mac: "02:00:00:00:00:03" } };
    expect(parseBridgeConfig(network(all), fromEnvironment).mac).toBe("02:00:00:00:00:03");
  });

  test("an empty one does not count", () => {
    expect(parseBridgeConfig(network({ runtimeConfig: { mac: "" } }), fromEnvironment).mac).toBe(
      "02:00:00:00:00:01",
    );
  });

  test.each([
    [{ runtimeConfig: { mac: "02:00" } }, [], 7, "02:00"],
    [{ args: { cni: { mac: 5 } } }, [], 7, "mac 5"],
    [{ runtimeConfig: { mac: "01:00:5e:00:00:01" } }, [], 7, "01:00:5e:00:00:01"],
    [{ runtimeConfig: { mac: "00:00:00:00:00:00" } }, [], 7, "00:00:00:00:00:00"],
    [{}, [["MAC", "zz"]] as const, 4, "zz"],
    [{}, [["COLOUR", "red"]] as const, 4, "COLOUR=red"],
  ])("refuses %j with CNI_ARGS %j", (json, args, code, named) => {
    const error = refusal(json, args);
    expect(error.code).toBe(code);
    expect(error.message).toContain(named);
  });

  test("other CNI_ARGS are accepted with IgnoreUnknown, and those of the IPAM plugins always", () => {
    parseBridgeConfig(network({}), [
      ["IgnoreUnknown", "1"],
      ["K8S_POD_NAME", "web"],
    ]);
    parseBridgeConfig(network({}), [["IP", "10.1.0.9"]]);
  });
});

test("dns overrides IPAM's if any list is there, even an empty one, or a domain", () => {
  expect(parseBridgeConfig(network({ dns: {} })).dns).toBeUndefined();
  expect(parseBridgeConfig(network({ dns: { domain: "" } })).dns).toBeUndefined();
  expect(parseBridgeConfig(network({ dns: { domain: "x.test" } })).dns).toEqual({ domain: "x.test" });
  expect(parseBridgeConfig(network({ dns: { search: [] } })).dns).toEqual({ search: [] });
});

test.each<[JsonObject, string, string]>([
  [{ bridge: "a-bridge-with-a-long-name" }, "bridge", "a-bridge-with-a-long-name"],
  [{ bridge: "a b" }, "bridge", "a b"],
  [{ bridge: 7 }, "bridge", "7"],
  [{ isGateway: "yes" }, "isGateway", '"yes"'],
  [{ mtu: "1500" }, "mtu", '"1500"'],
  [{ mtu: -1 }, "mtu", "-1"],
  [{ mtu: 67 }, "mtu", "67"],
  [{ mtu: 65536 }, "mtu", "65536"],
  [{ mtu: 1500.5 }, "mtu", "1500.5"],
  [{ ipMasq: true, ipMasqBackend: "pf" }, "ipMasqBackend", '"pf"'],
  [{ ipMasq: true, insistOnBackend: true }, "insistOnBackend", "ipMasqBackend"],
  [
    { hairpinMode: true, promiscMode: true },
    "hairpinMode",
    "cannot set hairpin mode and promiscuous mode at the same time",
  ],
  [{ vlan: 4095 }, "vlan", "invalid VLAN ID 4095 (must be between 0 and 4094)"],
  [{ vlan: -1 }, "vlan", "invalid VLAN ID -1 (must be between 0 and 4094)"],
  [{ vlanTrunk: {} }, "vlanTrunk", "{}"],
  [{ vlanTrunk: [{ minID: 0, maxID: 4 }] }, "vlanTrunk[0]", "incorrect trunk minID parameter"],
  [{ vlanTrunk: [{ minID: 1, maxID: 4095 }] }, "vlanTrunk[0]", "incorrect trunk maxID parameter"],
  [
    { vlanTrunk: [{ id: 5 }, { minID: 9, maxID: 4 }] },
    "vlanTrunk[1]",
    "minID is greater than maxID in trunk parameter",
  ],
  [{ vlanTrunk: [{ maxID: 4 }] }, "vlanTrunk[0]", "minID is missing"],
  [{ vlanTrunk: [{ minID: 4 }] }, "vlanTrunk[0]", "maxID is missing"],
  [{ vlanTrunk: [{ id: 4095 }] }, "vlanTrunk[0]", "incorrect trunk id parameter"],
  [{ vlanTrunk: [{}] }, "vlanTrunk[0]", "{}"],
  [
    { disableContainerInterface: true, ipam: { type: "host-local" } },
    "host-local",
    "cannot use IPAM when DisableContainerInterface flag is set",
  ],
  [{ bridge: "bridge-of-many", isGateway: true, vlan: 100 }, "bridge-of-many.100", "15 bytes"],
  [{ ipam: "host-local" }, "ipam", '"host-local"'],
  [{ ipam: { type: 5 } }, "ipam.type", "5"],
  [{ dns: { nameservers: "10.0.0.1" } }, "dns.nameservers", '"10.0.0.1"'],
])("refuses %j, naming the field and the value", (json, field, named) => {
  const error = refusal(json);
  expect(error.code).toBe(7);
  expect(error.message).toContain(field);
  expect(error.message).toContain(named);
});

test("any JSON is accepted or refused with a CNI error", () => {
  const keys = fc.constantFrom(
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "forceAddress",
    "ipMasq",
    "ipMasqBackend",
    "mtu",
    "hairpinMode",
    "promiscMode",
    "vlan",
    "vlanTrunk",
    "preserveDefaultVlan",
    "disableContainerInterface",
    "macspoofchk",
    "portIsolation",
    "enabledad",
    "ipam",
    "dns",
    "runtimeConfig",
    "args",
  );
  const value = fc.oneof(fc.boolean(), fc.integer({ min: -10, max: 5000 }), fc.jsonValue());
  fc.assert(
    fc.property(fc.dictionary(keys, value), (json) => {
      try {
        parseBridgeConfig(network(json as JsonObject));
      } catch (error) {
        expect(error).toBeInstanceOf(CniError);
      }
    }),
    { numRuns: 2000 },
  );
});

describe("who may reach whom", () => {
  test("takes every field", () => {
    const json = {
      ipMasq: true,
      internal: true,
      icc: false,
      gatewayMode: { ipv4: "isolated", IPv6: "routed" },
      networkIsolation: true,
      snat: { ipv4: "192.0.2.7", ipv6: "2001:db8::7" },
      trustedInterfaces: ["wg0", "wg0", "tun0"],
    };
    expect(parseBridgeConfig(network(json)).isolation).toMatchObject({
      internal: true,
      icc: false,
      gatewayMode: { 4: "isolated", 6: "routed" },
      networkIsolation: true,
      snat: { 4: { family: 4 }, 6: { family: 6 } },
      trustedInterfaces: ["wg0", "tun0"],
    });
  });

  test("what stands for nothing is nothing", () => {
    const json = { gatewayMode: { ipv4: "" }, snat: { ipv4: "" } };
    expect(parseBridgeConfig(network(json)).isolation).toMatchObject({
      gatewayMode: { 4: "open" },
      snat: {},
    });
  });

  test.each([
    [{ gatewayMode: { ipv6: "bridged" } }, /gatewayMode\.ipv6 "bridged" must be one of "nat"/],
    [{ gatewayMode: { ipv4: "isolated" } }, /"gatewayMode\.ipv4" "isolated": needs "internal": true/],
    [{ gatewayMode: "nat" }, /gatewayMode "nat"/],
    [{ snat: { ipv4: "2001:db8::7" }, ipMasq: true }, /"snat\.ipv4" "2001:db8::7": must be an IPv4 address/],
    [{ snat: { ipv4: "127.0.0.1" }, ipMasq: true }, /"snat\.ipv4" "127\.0\.0\.1": must be an address/],
    [{ snat: { ipv4: "192.0.2.7" } }, /"snat\.ipv4" "192\.0\.2\.7": needs "ipMasq": true/],
    [
      { snat: { ipv4: "192.0.2.7" }, ipMasq: true, ipMasqBackend: "iptables", insistOnBackend: true },
      /"snat\.ipv4" "192\.0\.2\.7": nftables alone/,
    ],
    [{ trustedInterfaces: ["much-too-long-name"] }, /trustedInterfaces/],
    [{ internal: "yes" }, /internal "yes" must be true or false/],
    [{ ipspoofchk: true, vlanTrunk: [{ id: 7 }] }, /"ipspoofchk" true/],
  ])("%j is refused", (json, problem) => {
    const { code, message } = refusal(json);
    expect(code).toBe(7);
    expect(message).toMatch(problem);
  });
});
