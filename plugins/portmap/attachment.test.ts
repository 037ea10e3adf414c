import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CniResult } from "#cni/result.ts";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import { parsePort } from "#net/port.ts";
import { formatClaim } from "#nftables/ports.ts";
import { containerAddresses, describeAttachment, publishedPorts } from "./attachment.ts";
import type { PortMapping, PortmapConfig } from "./config.ts";
import { decodeMade, encodeMade } from "./made.ts";

const config = (mappings: readonly PortMapping[], extra: Partial<PortmapConfig> = {}): PortmapConfig => ({
  backend: "nftables",
  snat: true,
  masqueradeAll: false,
  setMark: { markMasqBit: 13 },
  conditions: { 4: [], 6: [] },
  mappings,
  ...extra,
});

const mapping = (
  hostPort: number,
  containerPort: number,
  more: Partial<PortMapping> & { readonly on?: string } = {},
): PortMapping => ({
  hostPort: parsePort(hostPort),
  containerPort: parsePort(containerPort),
  protocol: more.protocol ?? "tcp",
  hostIp: more.on === undefined ? undefined : parseIp(more.on),
});

const result = (...ips: (readonly [address: string, of?: number])[]): CniResult => ({
  interfaces: [
    { name: "br0" },
    { name: "veth1" },
    { name: "eth0", sandbox: "/run/netns/c" },
    { name: "eth1", sandbox: "/run/netns/c" },
    { name: "eth0" },
  ],
  ips: ips.map(([address, of]) => ({
    address: parseCidr(address),
    ...(of === undefined ? {} : { interface: of }),
  })),
  routes: [],
  dns: {},
});

describe("containerAddresses", () => {
  const of = (...ips: (readonly [address: string, of?: number])[]) =>
    containerAddresses(result(...ips), "eth0").map(formatCidr);

  it("takes the first of each family that the interface has", () => {
    expect(of(["10.1.0.2/24", 2], ["10.1.0.3/24", 2], ["fd00::2/64", 2], ["fd00::3/64", 2])).toEqual([
      "10.1.0.2/24",
      "fd00::2/64",
    ]);
    expect(of(["fd00::2/64", 2])).toEqual(["fd00::2/64"]);
  });

  it("passes over those of other interfaces and of the host", () => {
    expect(of(["10.1.0.1/24", 0], ["10.9.0.2/24", 3], ["10.8.0.1/24", 4], ["10.1.0.2/24", 2])).toEqual([
      "10.1.0.2/24",
    ]);
  });

  it("takes those that say no interface, or one that there is not", () => {
    expect(of(["10.1.0.2/24"])).toEqual(["10.1.0.2/24"]);
    expect(of(["10.1.0.2/24", 17])).toEqual(["10.1.0.2/24"]);
  });
});

describe("publishedPorts", () => {
  const both = [parseCidr("10.1.0.2/24"), parseCidr("fd00::2/64")];
  const shown = (...mappings: PortMapping[]) =>
    publishedPorts(mappings, both).map(({ protocol, hostIp, hostPorts, container, containerPort }) => {
      const claim = formatClaim({ family: container.family, protocol, hostIp, ports: hostPorts });
      return `${claim} ${formatIp(container)} ${containerPort}`;
    });

  it("publishes for both families, unless an address says which", () => {
    expect(
      shown(
        mapping(80, 8080),
        mapping(81, 81, { on: "0.0.0.0" }),
        mapping(82, 82, { on: "::" }),
        mapping(83, 83, { on: "127.0.0.1" }),
        mapping(84, 84, { on: "2001:db8::1" }),
      ),
    ).toEqual([
      "0.0.0.0:80/tcp 10.1.0.2 8080",
      "0.0.0.0:81/tcp 10.1.0.2 81",
      "127.0.0.1:83/tcp 10.1.0.2 83",
      "[::]:80/tcp fd00::2 8080",
      "[::]:82/tcp fd00::2 82",
      "[2001:db8::1]:84/tcp fd00::2 84",
    ]);
  });

  it("joins neighbouring ports that lead to neighbouring ports, in whatever order they come", () => {
    const one = [80, 82, 81, 81, 90].map((port) => mapping(port, port, { on: "0.0.0.0" }));
    expect(shown(...one)).toEqual(["0.0.0.0:80-82/tcp 10.1.0.2 80", "0.0.0.0:90/tcp 10.1.0.2 90"]);
    expect(shown(mapping(81, 2001, { on: "0.0.0.0" }), mapping(80, 2000, { on: "0.0.0.0" }))).toEqual([
      "0.0.0.0:80-81/tcp 10.1.0.2 2000",
    ]);
    expect(
      shown(
        mapping(80, 80, { on: "0.0.0.0" }),
        mapping(81, 82, { on: "0.0.0.0" }),
        mapping(82, 82, { on: "0.0.0.0", protocol: "udp" }),
      ),
    ).toHaveLength(3);
  });

  it("loses and invents no port", () => {
    const port = fc.integer({ min: 1, max: 40 });
    const one = fc.record({ hostPort: port, containerPort: port, protocol: fc.constantFrom("tcp", "udp") });
    const unique = fc.uniqueArray(one, { selector: ({ hostPort, protocol }) => `${protocol} ${hostPort}` });
    fc.assert(
      fc.property(unique, (mappings) => {
        const asked = mappings.map(
          ({ hostPort, containerPort, protocol }) => `${protocol} ${hostPort} ${containerPort}`,
        );
        const published = publishedPorts(
          mappings.map(({ hostPort, containerPort, protocol }) =>
            mapping(hostPort, containerPort, { protocol }),
          ),
          [parseCidr("10.1.0.2/24")],
        ).flatMap(({ protocol, hostPorts: { first, last }, containerPort }) =>
          Array.from({ length: last - first + 1 }, (_, n) => `${protocol} ${first + n} ${containerPort + n}`),
        );
        expect([...published].sort()).toEqual([...asked].sort());
      }),
    );
  });

  it("refuses to lead one port to two", () => {
    expect(() => shown(mapping(80, 80), mapping(80, 81))).toThrow(
      '"portMappings" lead port 80/tcp to both 80 and 81',
    );
    expect(shown(mapping(80, 80), mapping(80, 81, { on: "127.0.0.1" }))).toHaveLength(3);
  });
});

describe("describeAttachment", () => {
  const key = { network: "net1", containerId: "c1", ifName: "eth0" };
  const prevResult = result(["10.1.0.2/24", 2], ["fd00::2/64", 2]);
  const describeWith = (extra: Partial<PortmapConfig>, ...mappings: PortMapping[]) =>
    describeAttachment({ config: config(mappings, extra), key, prevResult, routedFamilies: [] });

  it("needs sources of the host for the addresses that are published, if `snat` says so", () => {
    expect(describeWith({}, mapping(80, 80)).hairpin.map(formatCidr)).toEqual(["10.1.0.2/24", "fd00::2/64"]);
    expect(describeWith({}, mapping(80, 80, { on: "::" })).hairpin.map(formatCidr)).toEqual(["fd00::2/64"]);
    expect(describeWith({ snat: false, masqueradeAll: true }, mapping(80, 80))).toMatchObject({
      hairpin: [],
      masqueradeAll: false,
    });
    expect(describeWith({}).published).toEqual([]);
  });

  it("is kept by the journal as it is", () => {
    const { key: _, ...made } = describeWith(
      { masqueradeAll: true },
      mapping(80, 8080),
      mapping(100, 100),
      mapping(101, 101),
      mapping(53, 53, { on: "127.0.0.1", protocol: "udp" }),
    );
    const record = {
      phase: "done" as const,
      key,
      plugin: "portmap",
      config: {},
      args: [],
      made: JSON.parse(JSON.stringify(encodeMade(made))) as never,
      bootId: "b",
      writer: { pid: 1, startTicks: 1 },
      createdAtMs: 0,
    };
    expect(decodeMade(record)).toEqual(made);
    expect(decodeMade({ ...record, made: { published: [{}] } })).toBeUndefined();
    expect(decodeMade({ phase: "torn", key, plugin: "portmap" })).toBeUndefined();
  });
});
