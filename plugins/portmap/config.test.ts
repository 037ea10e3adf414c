import { describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { readNetworkConfig } from "#cni/network-config.ts";
import { cniVersions } from "#cni/version.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import { parsePortmapConfig } from "./config.ts";

const parse = (fields: JsonObject, portMappings: readonly JsonObject[] = []) => {
  const json = {
    cniVersion: "1.1.0",
    name: "net1",
    type: "portmap",
    ...fields,
    runtimeConfig: { portMappings: [...portMappings] },
  };
  return parsePortmapConfig(readNetworkConfig(json, "ADD", cniVersions, () => {}));
};
const mappings = (...portMappings: JsonObject[]) => parse({}, portMappings).mappings;

describe("parsePortmapConfig", () => {
  it("fills in the defaults", () => {
    expect(parse({})).toEqual({
      backend: "nftables",
      snat: true,
      masqueradeAll: false,
      setMark: { markMasqBit: 13 },
      conditions: { 4: [], 6: [] },
      mappings: [],
    });
    expect(parse({ snat: null, masqAll: null, conditionsV4: null, markMasqBit: null })).toEqual(parse({}));
    expect(parse({ snat: false, masqAll: true })).toMatchObject({ snat: false, masqueradeAll: true });
  });

  it("reads mappings by the names of the specification and by those that Kubernetes sends", () => {
    expect(
      mappings(
        { hostPort: 8080, containerPort: 80, protocol: "tcp" },
        { HostPort: 53, ContainerPort: 54, Protocol: "udp", HostIP: "" },
        { hostPort: 9, containerPort: 9, protocol: "SCTP", hostIP: "127.0.0.1" },
        { hostPort: 10, containerPort: 10, hostIP: "::" },
      ),
    ).toEqual([
      { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: undefined },
      { hostPort: 53, containerPort: 54, protocol: "udp", hostIp: undefined },
      { hostPort: 9, containerPort: 9, protocol: "sctp", hostIp: parseIp("127.0.0.1") },
      { hostPort: 10, containerPort: 10, protocol: "tcp", hostIp: parseIp("::") },
    ]);
  });

  it.each<[JsonObject, readonly (string | undefined)[]]>([
    [{}, [undefined]],
    [{ ipv4: "127.0.0.1" }, ["127.0.0.1"]],
    [{ ipv4: "127.0.0.1", ipv6: "2001:db8::1" }, ["127.0.0.1", "2001:db8::1"]],
    [{ ipv6: "2001:db8::1" }, ["2001:db8::1"]],
    [{ ipv4: "0.0.0.0" }, [undefined]],
    [{ ipv4: "", ipv6: "::" }, [undefined]],
    [{ ipv4: "127.0.0.1", ipv6: "::" }, ["127.0.0.1", "::"]],
  ])("publishes what names no address by the default binding %j", (hostBinding, expected) => {
    const port = { hostPort: 80, containerPort: 80 };
    const hostIps = parse({ hostBinding }, [port]).mappings.map(({ hostIp }) => hostIp && formatIp(hostIp));
    expect(hostIps).toEqual(expected);
    expect(parse({ hostBinding }, [{ ...port, hostIP: "192.0.2.7" }]).mappings).toHaveLength(1);
  });

  it.each<[JsonObject, string]>([
    [{ ipv4: "::" }, '"hostBinding.ipv4" ::: must be an IPv4 address'],
    [{ ipv6: "::1" }, "can't be published on"],
    [{ ipv4: "nowhere" }, "hostBinding.ipv4"],
  ])("refuses the default binding %j", (hostBinding, message) => {
    expect(() => parse({ hostBinding })).toThrow(message);
  });

  it.each([
    [{ hostPort: 0, containerPort: 80 }, '"portMappings[0].hostPort": Invalid host port number: 0'],
    [{ containerPort: 80 }, "Invalid host port number: 0"],
    [{ hostPort: 80 }, "Invalid container port number: 0"],
    [{ hostPort: 80, containerPort: -1 }, "Invalid container port number: -1"],
    [{ hostPort: 65536, containerPort: 80 }, "Invalid host port number: 65536"],
    [{ hostPort: "80", containerPort: 80 }, 'portMappings[0].hostPort "80" must be an integer'],
    [{ hostPort: 80, containerPort: 80, protocol: "icmp" }, '"icmp" must be one of tcp, udp, sctp'],
    [{ hostPort: 80, containerPort: 80, hostIP: "10.0.0" }, "portMappings[0].hostIP: Cannot parse"],
    [{ hostPort: 80, containerPort: 80, hostIP: "::1" }, "::1 can't be published on"],
    [{ hostPort: 80, containerPort: 80, hostIP: "fe80::1" }, "fe80::1 can't be published on"],
    [{ hostPort: 80, containerPort: 80, hostIP: "224.0.0.1" }, "224.0.0.1 is no address of a host"],
  ])("refuses the mapping %j", (mapping, message) => {
    expect(() => mappings(mapping)).toThrow(message);
  });

  it.each<[JsonObject, string]>([
    [{}, "nftables"],
    [{ backend: "nftables" }, "nftables"],
    [{ backend: "iptables" }, "nftables"],
    [{ backend: "iptables", externalSetMarkChain: "KUBE-MARK-MASQ" }, "nftables"],
    [{ backend: "iptables", insistOnBackend: true }, "iptables"],
    [{ backend: "nftables", insistOnBackend: true }, "nftables"],
    [{ conditionsV4: ["ip", "saddr", "10.0.0.0/8"] }, "nftables"],
    [{ backend: "nftables", conditionsV6: ["ip6", "saddr", "fd00::/8"] }, "nftables"],
    // What is said in iptables' words only iptables can do.
    [{ conditionsV4: ["-s", "10.0.0.0/8"] }, "iptables"],
    [{ backend: "iptables", conditionsV4: ["!", "-s", "10.0.0.0/8"], conditionsV6: [""] }, "iptables"],
  ])("serves %j by %s", (fields, backend) => {
    expect(parse(fields).backend).toBe(backend);
  });

  it.each<[JsonObject, string]>([
    [{ backend: "ipvs" }, 'unrecognized backend "ipvs"'],
    [{ insistOnBackend: true }, 'needs "backend"'],
    [{ markMasqBit: 32 }, "MasqMarkBit must be between 0 and 31"],
    [{ markMasqBit: -1 }, "MasqMarkBit must be between 0 and 31"],
    [{ markMasqBit: 5, externalSetMarkChain: "X" }, "Cannot specify externalSetMarkChain and markMasqBit"],
    [
      { backend: "nftables", conditionsV4: ["-s", "10.0.0.0/8"] },
      "nftables backend was requested but configuration contains iptables-specific options [conditionsV4]",
    ],
    [
      { backend: "nftables", externalSetMarkChain: "X", conditionsV4: ["-s", "10.0.0.0/8"] },
      "iptables-specific options [externalSetMarkChain conditionsV4]",
    ],
    [
      { backend: "iptables", conditionsV6: ["ip6", "saddr", "fd00::/8"] },
      "iptables backend was requested but configuration contains nftables-specific options [conditionsV6]",
    ],
    [
      { conditionsV4: ["-s", "10.0.0.0/8"], conditionsV6: ["tcp", "sport", "1"] },
      "nftables-specific options",
    ],
    [{ snat: "yes" }, 'snat "yes" must be true or false'],
  ])("refuses %j", (fields, message) => {
    expect(() => parse(fields)).toThrow(message);
  });
});
