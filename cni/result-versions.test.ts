import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import type { JsonObject } from "./json.ts";
import type { CniResult } from "./result.ts";
import { decodeResult, encodeResult } from "./result-versions.ts";
import { type CniVersion, cniVersions } from "./version.ts";

/** Everything a result can say. */
const full: CniResult = {
  interfaces: [
    { name: "cni0", mac: "aa:bb:cc:dd:ee:01", mtu: 1450 },
    {
      name: "eth0",
      mac: "aa:bb:cc:dd:ee:02",
      sandbox: "/run/netns/a",
      pciId: "0000:00:1f.6",
      socketPath: "/s",
    },
  ],
  ips: [
    { interface: 0, address: parseCidr("10.0.0.5/24"), gateway: parseIp("10.0.0.1") },
    { address: parseCidr("10.0.0.6/24") },
    { interface: 1, address: parseCidr("fd00::5/64"), gateway: parseIp("fd00::1") },
  ],
  routes: [
    {
      dst: parseCidr("0.0.0.0/0"),
      gw: parseIp("10.0.0.1"),
      mtu: 1400,
      advmss: 1360,
      priority: 10,
      table: 0,
      scope: 0,
    },
    { dst: parseCidr("192.168.0.0/16") },
    { dst: parseCidr("::/0"), gw: parseIp("fd00::1") },
  ],
  dns: { nameservers: ["10.0.0.1"], domain: "example", search: ["a", "b"], options: ["ndots:5"] },
};

const dnsJson = { nameservers: ["10.0.0.1"], domain: "example", search: ["a", "b"], options: ["ndots:5"] };

const routesJson = [
  { dst: "0.0.0.0/0", gw: "10.0.0.1", mtu: 1400, advmss: 1360, priority: 10, table: 0, scope: 0 },
  { dst: "192.168.0.0/16" },
  { dst: "::/0", gw: "fd00::1" },
];

const shapes: Readonly<Record<"oldest" | "middle" | "newest", JsonObject>> = {
  oldest: {
    ip4: {
      ip: "10.0.0.5/24",
      gateway: "10.0.0.1",
      routes: [{ dst: "0.0.0.0/0", gw: "10.0.0.1" }, { dst: "192.168.0.0/16" }],
    },
    ip6: { ip: "fd00::5/64", gateway: "fd00::1", routes: [{ dst: "::/0", gw: "fd00::1" }] },
    dns: dnsJson,
  },
  middle: {
    interfaces: [
      { name: "cni0", mac: "aa:bb:cc:dd:ee:01" },
      { name: "eth0", mac: "aa:bb:cc:dd:ee:02", sandbox: "/run/netns/a" },
    ],
    ips: [
      { version: "4", interface: 0, address: "10.0.0.5/24", gateway: "10.0.0.1" },
      { version: "4", address: "10.0.0.6/24" },
      { version: "6", interface: 1, address: "fd00::5/64", gateway: "fd00::1" },
    ],
    routes: routesJson,
    dns: dnsJson,
  },
  newest: {
    interfaces: [
      { name: "cni0", mac: "aa:bb:cc:dd:ee:01", mtu: 1450 },
      {
        name: "eth0",
        mac: "aa:bb:cc:dd:ee:02",
        sandbox: "/run/netns/a",
        pciID: "0000:00:1f.6",
        socketPath: "/s",
      },
    ],
    ips: [
      { interface: 0, address: "10.0.0.5/24", gateway: "10.0.0.1" },
      { address: "10.0.0.6/24" },
      { interface: 1, address: "fd00::5/64", gateway: "fd00::1" },
    ],
    routes: routesJson,
    dns: dnsJson,
  },
};

const shapeOf: Readonly<Record<CniVersion, keyof typeof shapes>> = {
  "0.1.0": "oldest",
  "0.2.0": "oldest",
  "0.3.0": "middle",
  "0.3.1": "middle",
  "0.4.0": "middle",
  "1.0.0": "newest",
  "1.1.0": "newest",
};

describe("encodeResult()", () => {
  it.each(cniVersions)("writes a full result in %s", (version) => {
    expect(encodeResult(full, version)).toEqual({ cniVersion: version, ...shapes[shapeOf[version]] });
  });

  it.each(cniVersions)("prints empty dns up to 0.4.0 only (%s), and no empty lists", (version) => {
    const json = encodeResult({ ...full, interfaces: [], routes: [], dns: { nameservers: [] } }, version);
    expect("dns" in json).toBe(shapeOf[version] !== "newest");
    expect(Object.keys(json)).not.toContain("interfaces");
    expect(Object.keys(json)).not.toContain("routes");
  });

  it.each(["0.1.0", "0.2.0"] as const)("can't express a result without addresses in %s", (version) => {
    expect(() => encodeResult({ ...full, ips: [] }, version)).toThrow(
      `Cannot convert result to CNI version ${version}: no valid IP addresses`,
    );
    expect(encodeResult({ ...full, ips: [] }, "0.3.0")).not.toHaveProperty("ips");
  });

  it("drops routes of a family that has no address in 0.2.0", () => {
    const json = encodeResult({ ...full, ips: full.ips.slice(2) }, "0.2.0");
    expect(json).toEqual({ cniVersion: "0.2.0", ip6: shapes.oldest["ip6"], dns: dnsJson });
  });
});

describe("decodeResult()", () => {
  it.each(cniVersions)("reads what it wrote in %s, as far as the version can say it", (version) => {
    const expected: Record<keyof typeof shapes, CniResult> = {
      newest: full,
      middle: {
        ...full,
        interfaces: [
          { name: "cni0", mac: "aa:bb:cc:dd:ee:01" },
          { name: "eth0", mac: "aa:bb:cc:dd:ee:02", sandbox: "/run/netns/a" },
        ],
      },
      oldest: {
        interfaces: [],
        ips: [
          { address: parseCidr("10.0.0.5/24"), gateway: parseIp("10.0.0.1") },
          { address: parseCidr("fd00::5/64"), gateway: parseIp("fd00::1") },
        ],
        routes: [
          { dst: parseCidr("0.0.0.0/0"), gw: parseIp("10.0.0.1") },
          { dst: parseCidr("192.168.0.0/16") },
          { dst: parseCidr("::/0"), gw: parseIp("fd00::1") },
        ],
        dns: full.dns,
      },
    };
    expect(decodeResult(shapes[shapeOf[version]], version)).toEqual(expected[shapeOf[version]]);
  });

  it("drops interface fields of 1.1.0 from a result that says it is older", () => {
    const json = { interfaces: [{ name: "a", mtu: 1400, socketPath: "/s", pciID: "x" }] };
    expect(decodeResult(json, "0.4.0").interfaces).toEqual([{ name: "a" }]);
    expect(decodeResult(json, "1.0.0").interfaces).toEqual([
      { name: "a", mtu: 1400, socketPath: "/s", pciId: "x" },
    ]);
  });

  it("goes by the result's own version, else by the configuration's", () => {
    const old = { ip4: { ip: "10.0.0.5/24" } };
    expect(decodeResult({ cniVersion: "0.2.0", ...old }, "1.0.0").ips).toHaveLength(1);
    expect(decodeResult(old, "1.0.0").ips).toHaveLength(0);
    expect(decodeResult({ cniVersion: "", ...old }, "0.1.0").ips).toHaveLength(1);
    expect(() => decodeResult({ cniVersion: "9.9.9" }, "1.0.0")).toThrow(
      expect.objectContaining({ code: 1 }),
    );
    expect(() => decodeResult({ cniVersion: 1 }, "1.0.0")).toThrow("Cannot read result of CNI version 1");
  });

  it("keeps interface 0 apart from none, and takes -1 for none", () => {
    const address = "10.0.0.5/24";
    const json = {
      ips: [{ interface: 0, address }, { address }, { interface: -1, address }, { interface: null, address }],
    };
    expect(decodeResult(json, "1.0.0").ips.map((ip) => ip.interface)).toEqual([
      0,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('takes "" for absent gateways, sandboxes and macs, and keys in any case', () => {
    const json = {
      Interfaces: [{ Name: "eth0", Mac: "", SANDBOX: "" }],
      IPs: [{ Address: "10.0.0.5/24", Gateway: "" }],
      routes: [{ dst: "0.0.0.0/0", GW: "" }],
      DNS: { Nameservers: ["1.1.1.1"], domain: "" },
    };
    expect(decodeResult(json, "0.3.1")).toEqual({
      interfaces: [{ name: "eth0" }],
      ips: [{ address: parseCidr("10.0.0.5/24") }],
      routes: [{ dst: parseCidr("0.0.0.0/0") }],
      dns: { nameservers: ["1.1.1.1"] },
    });
  });

  it.each([
    ["1.0.0", { ips: [{ address: "10.0.0.5" }] }, "ips[0].address: Cannot parse CIDR"],
    ["1.0.0", { ips: [{}] }, "ips[0].address is missing"],
    ["1.0.0", { ips: {} }, "ips {} must be a list"],
    [
      "1.0.0",
      { ips: [{ address: "10.0.0.5/24", interface: "0" }] },
      'ips[0].interface "0" must be an integer',
    ],
    ["1.0.0", { routes: [{ dst: "default" }] }, "routes[0].dst: Cannot parse CIDR"],
    ["1.0.0", { routes: [{ dst: "::/0", table: -5 }] }, "routes[0].table -5 must be an integer"],
    [
      "1.0.0",
      { routes: [{ dst: "::/0", scope: 777 }] },
      "routes[0].scope 777 must be an integer of 0 to 255",
    ],
    ["1.0.0", { dns: [] }, "dns [] must be an object"],
    ["0.2.0", { ip4: { ip: 4 } }, "ip4.ip 4 must be a string"],
  ] as const)("in %s refuses %j", (version, json, problem) => {
    expect(() => decodeResult(json, version, "prevResult")).toThrow(`Cannot use prevResult: ${problem}`);
    expect(() => decodeResult(json, version)).toThrow(expect.objectContaining({ code: 7 }));
  });
});

const ipv4 = fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((value) => ({ family: 4 as const, value }));
const ipv6 = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map((value) => ({ family: 6 as const, value }));
const ipText = fc.oneof(ipv4, ipv6).map(formatIp);
const cidrText = fc
  .oneof(fc.tuple(ipv4, fc.integer({ min: 0, max: 32 })), fc.tuple(ipv6, fc.integer({ min: 0, max: 128 })))
  .map(([address, prefixLength]) => formatCidr({ address, prefixLength }));
const some = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });

const anyResultJson: fc.Arbitrary<JsonObject> = fc.record(
  {
    interfaces: fc.array(
      fc.record(
        {
          name: fc.string(),
          mac: fc.string(),
          sandbox: some(fc.string()),
          mtu: fc.nat(),
          pciID: fc.string(),
        },
        { requiredKeys: ["name"] },
      ),
    ),
    ips: fc.array(
      fc.record(
        {
          address: cidrText,
          gateway: some(ipText),
          interface: fc.integer({ min: -1, max: 3 }),
          version: fc.string(),
        },
        { requiredKeys: ["address"] },
      ),
    ),
    routes: fc.array(
      fc.record(
        { dst: cidrText, gw: ipText, mtu: fc.nat(), table: fc.nat(), scope: fc.nat(255) },
        { requiredKeys: ["dst"] },
      ),
    ),
    dns: fc.record({ nameservers: fc.array(fc.string()), domain: fc.string() }, { requiredKeys: [] }),
    ip4: fc.record({ ip: cidrText, gateway: ipText }, { requiredKeys: ["ip"] }),
    ip6: fc.record({ ip: cidrText, gateway: ipText }, { requiredKeys: ["ip"] }),
  },
  { requiredKeys: [] },
);

describe("any result", () => {
  it("says the same after any number of trips through one version", () => {
    fc.assert(
      fc.property(anyResultJson, fc.constantFrom(...cniVersions), (json, version) => {
        const first = decodeResult(json, version);
        fc.pre(version >= "0.3.0" || first.ips.length > 0);
        const once = encodeResult(first, version);
        const twice = encodeResult(decodeResult(once, version), version);
        expect(twice).toEqual(once);
        expect(JSON.parse(JSON.stringify(once))).toEqual(once);
      }),
      { numRuns: 1000 },
    );
  });

  it("loses nothing on its way from 0.3.0 to 1.1.0 and back", () => {
    fc.assert(
      fc.property(anyResultJson, fc.constantFrom("0.3.0", "0.3.1", "0.4.0"), (json, version) => {
        const old = encodeResult(decodeResult(json, version), version);
        const newer = encodeResult(decodeResult(old, version), "1.1.0");
        expect(encodeResult(decodeResult(newer, "1.1.0"), version)).toEqual(old);
      }),
      { numRuns: 1000 },
    );
  });
});
