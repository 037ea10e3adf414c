import { describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { type CniResult, emptyResult } from "#cni/result.ts";
import { decodeResult } from "#cni/result-versions.ts";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { formatIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";
import { hostVethName } from "#plugins/host-veth.ts";
import { type Attachment, contradicting, describeAttachment } from "./attachment.ts";
import { parseBridgeConfig } from "./config.ts";

const key = { network: "net1", containerId: "c1", ifName: "eth0" };

function ipamAnswer(json: JsonObject): CniResult {
  return decodeResult({ cniVersion: "1.1.0", ...json }, "1.1.0");
}

function describeIt(config: JsonObject, ipam?: CniResult): Attachment {
  return describeAttachment({
    config: parseBridgeConfig({
      cniVersion: "1.1.0",
      name: "net1",
      type: "bridge",
      json: { ...config, ...(ipam ? { ipam: { type: "host-local" } } : {}) },
      runtimeConfig: {},
      cniArgs: {},
    }),
    key,
    ifName: parseIfName("eth0"),
    hostVeth: hostVethName(key),
    macs: { host: parseMac("02:00:00:00:00:01"), container: parseMac("02:00:00:00:00:02") },
    ipam,
  });
}

/** The attachment as `ip` would be told to make it. */
function asText(attachment: Attachment): string[] {
  return [
    ...attachment.interface.addresses.map((address) => `addr ${formatCidr(address)}`),
    ...attachment.interface.routes.map(
      (route) => `route ${formatCidr(route.dst)}${route.gw ? ` via ${formatIp(route.gw)}` : ""}`,
    ),
    ...(attachment.gateway?.addresses ?? []).map((address) => `gateway ${formatCidr(address)}`),
    ...attachment.forwarding.map((family) => `forward ${family}`),
    ...attachment.masquerade.map((address) => `masquerade ${formatCidr(address)}`),
  ];
}

const v4 = { ips: [{ address: "10.1.0.5/24" }] };
const dual = { ips: [{ address: "10.1.0.5/24" }, { address: "fd00:1::5/64" }] };

describe("the host veth's name", () => {
  test("follows from the attachment alone and looks like the reference's", () => {
    expect(hostVethName(key)).toBe(hostVethName({ ...key }));
    expect(hostVethName(key)).toMatch(/^veth[0-9a-f]{8}$/);
  });

  test("differs where any word differs, or the boundary between two", () => {
    const names = [
      key,
      { ...key, ifName: "eth1" },
      { ...key, containerId: "c2" },
      { ...key, network: "net2" },
      { network: "net", containerId: "1c1", ifName: "eth0" },
    ].map((each) => hostVethName(each));
    expect(new Set([...names, hostVethName(key, 1)]).size).toBe(6);
  });
});

test("without IPAM nothing of layer 3 is made, isGateway or not", () => {
  const attachment = describeIt({ isDefaultGateway: true, ipMasq: true });
  expect(asText(attachment)).toEqual([]);
  expect(attachment.gateway).toBeUndefined();
  expect(attachment.container.up).toBe(true);
});

test("an IPAM answer without addresses is refused", () => {
  expect(() => describeIt({}, emptyResult)).toThrow("IPAM plugin returned missing IP config");
});

test("without isGateway the addresses are all there is", () => {
  expect(asText(describeIt({}, ipamAnswer(v4)))).toEqual(["addr 10.1.0.5/24"]);
});

test("isGateway puts the first address of each subnet on the bridge, and says so in the result", () => {
  const attachment = describeIt({ isGateway: true }, ipamAnswer(dual));
  expect(asText(attachment)).toEqual([
    "addr 10.1.0.5/24",
    "addr fd00:1::5/64",
    "gateway 10.1.0.1/24",
    "gateway fd00:1::1/64",
    "forward 4",
    "forward 6",
  ]);
  expect(attachment.ips.map(({ gateway }) => gateway && formatIp(gateway))).toEqual([
    "10.1.0.1",
    "fd00:1::1",
  ]);
  expect(attachment.ips.map((ip) => ip.interface)).toEqual([2, 2]);
});

test("isGateway takes the gateway that IPAM names, with the subnet's prefix", () => {
  const answer = ipamAnswer({ ips: [{ address: "10.1.0.5/24", gateway: "10.1.0.254" }] });
  expect(asText(describeIt({ isGateway: true }, answer))).toContain("gateway 10.1.0.254/24");
});

test("isDefaultGateway adds one default route of each family", () => {
  const answer = ipamAnswer({ ips: [...dual.ips, { address: "10.2.0.5/24" }] });
  const attachment = describeIt({ isDefaultGateway: true }, answer);
  expect(asText(attachment).filter((line) => line.startsWith("route"))).toEqual([
    "route 0.0.0.0/0 via 10.1.0.1",
    "route ::/0 via fd00:1::1",
  ]);
  expect(attachment.routes.map(({ dst }) => formatCidr(dst))).toEqual(["0.0.0.0/0", "::/0"]);
});

test("isDefaultGateway leaves a family alone that has a default route with a gateway", () => {
  const answer = ipamAnswer({ ...dual, routes: [{ dst: "0.0.0.0/0", gw: "10.1.0.77" }] });
  expect(
    asText(describeIt({ isDefaultGateway: true }, answer)).filter((line) => line.startsWith("route")),
  ).toEqual(["route 0.0.0.0/0 via 10.1.0.77", "route ::/0 via fd00:1::1"]);
});

test("a default route without gateway and the one of isDefaultGateway are made once", () => {
  const answer = ipamAnswer({ ...v4, routes: [{ dst: "0.0.0.0/0" }] });
  const attachment = describeIt({ isDefaultGateway: true }, answer);
  expect(asText(attachment).filter((line) => line.startsWith("route"))).toEqual([
    "route 0.0.0.0/0 via 10.1.0.1",
  ]);
  // As with the reference plugin, which reports what it was given and what it added.
  expect(attachment.routes).toHaveLength(2);
});

test("a route without gateway goes through the first gateway of its family, or else straight out", () => {
  const answer = ipamAnswer({
    ips: [{ address: "10.1.0.5/24", gateway: "10.1.0.9" }, { address: "fd00:1::5/64" }],
    routes: [{ dst: "10.9.0.0/16" }, { dst: "fd00:9::/32" }],
  });
  expect(asText(describeIt({}, answer)).filter((line) => line.startsWith("route"))).toEqual([
    "route 10.9.0.0/16 via 10.1.0.9",
    "route fd00:9::/32",
  ]);
});

test("several gateways of one destination stay, with what else the routes say", () => {
  const routes = [
    { dst: "0.0.0.0/0", gw: "10.1.0.1", mtu: 1400, priority: 10, table: 100, scope: 0, advmss: 1300 },
    { dst: "0.0.0.0/0", gw: "10.1.0.2", mtu: 1400, priority: 10, table: 100, scope: 0 },
  ];
  const attachment = describeIt({}, ipamAnswer({ ...v4, routes }));
  expect(attachment.interface.routes).toMatchObject([
    { mtu: 1400, priority: 10, table: 100, scope: 0, advmss: 1300 },
    { mtu: 1400 },
  ]);
});

test("ipMasq masquerades and forwards without isGateway, in the families there are", () => {
  expect(asText(describeIt({ ipMasq: true }, ipamAnswer(v4)))).toEqual([
    "addr 10.1.0.5/24",
    "forward 4",
    "masquerade 10.1.0.5/24",
  ]);
});

test("a gateway that would lie beyond the subnet's last address is refused", () => {
  const answer = ipamAnswer({ ips: [{ address: "255.255.255.255/32" }] });
  expect(() => describeIt({ isGateway: true }, answer)).toThrow(/255\.255\.255\.255\/32/);
});

test("IPv6 with an mtu below its minimum is refused, naming both", () => {
  expect(() => describeIt({ mtu: 1279 }, ipamAnswer(dual))).toThrow(/"mtu" 1279.*1280 for IPv6/);
  expect(describeIt({ mtu: 1279 }, ipamAnswer(v4)).mtu).toBe(1279);
});

test.each([
  ["10.1.0.5/24", "10.1.0.5/24", {}, "address 10.1.0.5/24: it is there twice"],
  ["10.1.0.5/24", "10.1.0.5/16", {}, "address 10.1.0.5/16: it is there twice"],
  ["224.0.0.5/24", "", {}, "address 224.0.0.5/24"],
  ["0.0.0.0/24", "", {}, "address 0.0.0.0/24"],
  ["255.255.255.255/24", "", {}, "address 255.255.255.255/24"],
  ["::/64", "", {}, "address ::/64"],
  ["::1/64", "", {}, "address ::1/64"],
  ["ff02::5/64", "", {}, "address ff02::5/64"],
  ["127.0.0.5/8", "", {}, "address 127.0.0.5/8"],
  ["10.1.0.5/0", "", { isGateway: true }, "gateway 0.0.0.1: the subnet of 10.1.0.5/0 is all there is"],
  ["10.1.0.1/24", "", { isGateway: true }, "gateway 10.1.0.1: it is the container's own address"],
])("%s beside %j with %j is refused", (first, second, config, message) => {
  const ips = [first, second].filter((text) => text !== "").map((address) => ({ address }));
  expect(() => describeIt(config, ipamAnswer({ ips }))).toThrow(
    expect.objectContaining({ code: 7, message: expect.stringContaining(`Cannot use ${message}`) as string }),
  );
});

test.each(["10.2.0.1", "fd00::1"])("a gateway %s outside of the subnet is refused", (gateway) => {
  const answer = ipamAnswer({ ips: [{ address: "10.1.0.5/24", gateway }] });
  expect(() => describeIt({ isGateway: true }, answer)).toThrow(
    `gateway ${gateway}: it is not in the subnet of 10.1.0.5/24`,
  );
  expect(describeIt({}, answer).ips).toHaveLength(1);
});

test("a gateway needs no subnet where it is link-local, or the container is alone in its own", () => {
  const ips = [
    { address: "fd00::5/64", gateway: "fe80::1" },
    { address: "10.1.0.5/32", gateway: "10.2.0.1" },
  ];
  expect(describeIt({ isGateway: true }, ipamAnswer({ ips })).gateway?.addresses).toHaveLength(2);
});

test.each([
  ["192.0.2.0/24", "10.9.0.1"],
  ["0.0.0.0/0", "fd00:9::1"],
])("a route %s via %s that leads nowhere is refused, naming it", (dst, gw) => {
  const answer = ipamAnswer({ ...dual, routes: [{ dst, gw }] });
  expect(() => describeIt({}, answer)).toThrow(`Cannot use route ${dst} via ${gw}`);
});

test("a route of link scope gets no gateway, as the kernel would refuse it", () => {
  const ips = [{ address: "10.1.0.5/24", gateway: "10.1.0.1" }];
  const routes = [{ dst: "10.9.0.0/16", scope: 253 }, { dst: "10.8.0.0/16" }];
  expect(asText(describeIt({}, ipamAnswer({ ips, routes })))).toEqual([
    "addr 10.1.0.5/24",
    "route 10.9.0.0/16",
    "route 10.8.0.0/16 via 10.1.0.1",
  ]);
});

test("a route may lead through a gateway that another route puts on the link", () => {
  const routes = [{ dst: "10.9.0.1/32" }, { dst: "0.0.0.0/0", gw: "10.9.0.1" }];
  expect(describeIt({}, ipamAnswer({ ...v4, routes })).interface.routes).toHaveLength(2);
  const local = [{ dst: "0.0.0.0/0", gw: "fe80::1" }];
  expect(describeIt({}, ipamAnswer({ ...v4, routes: local })).interface.routes).toHaveLength(1);
});

test("a gateway that is none is refused only where it would be ours", () => {
  const answer = ipamAnswer({ ips: [{ address: "10.1.0.5/24", gateway: "224.0.0.1" }] });
  expect(() => describeIt({ isGateway: true }, answer)).toThrow(/gateway 224\.0\.0\.1/);
  expect(describeIt({}, answer).ips).toHaveLength(1);
});

describe("VLANs", () => {
  test("vlan makes the port an access port, and the gateway an interface in that VLAN", () => {
    const attachment = describeIt({ bridge: "br1", vlan: 100, isGateway: true }, ipamAnswer(v4));
    expect(attachment.bridge.vlanFiltering).toBe(true);
    expect(attachment.port.vlans).toEqual({ untagged: 100, tagged: [], keepOthers: false });
    expect(attachment.gateway?.vlan).toMatchObject({ id: 100, name: "br1.100" });
    expect(attachment.gateway?.vlan?.portName).toMatch(/^veth[0-9a-f]{8}$/);
  });

  test("vlanTrunk alone keeps VLAN 1 for untagged frames", () => {
    const attachment = describeIt({ vlanTrunk: [{ minID: 10, maxID: 12 }] });
    expect(attachment.port.vlans).toEqual({
      untagged: 1,
      tagged: [{ first: 10, last: 12 }],
      keepOthers: false,
    });
  });

  test("without either, filtering is not touched", () => {
    expect(describeIt({}).bridge.vlanFiltering).toBe(false);
    expect(describeIt({}).port.vlans).toBeUndefined();
  });
});

test("the config's mac wins over the one that was drawn", () => {
  const config = parseBridgeConfig({
    cniVersion: "1.1.0",
    name: "net1",
    type: "bridge",
    json: {},
    runtimeConfig: { mac: "02:aa:bb:cc:dd:ee" },
    cniArgs: {},
  });
  const attachment = describeAttachment({
    config,
    key,
    ifName: parseIfName("eth0"),
    hostVeth: hostVethName(key),
    macs: { host: parseMac("02:00:00:00:00:01"), container: parseMac("02:00:00:00:00:02") },
    ipam: undefined,
  });
  expect(attachment.container.mac).toBe("02:aa:bb:cc:dd:ee");
});

test("dns of the config replaces IPAM's as a whole", () => {
  const answer = ipamAnswer({ ...v4, dns: { nameservers: ["10.0.0.53"], search: ["a.test"] } });
  expect(describeIt({}, answer).dns).toEqual({ nameservers: ["10.0.0.53"], search: ["a.test"] });
  expect(describeIt({ dns: { search: ["b.test"] } }, answer).dns).toEqual({ search: ["b.test"] });
});

test("contradicting() finds any other IPv4 address and overlapping IPv6 ones", () => {
  const present = ["10.1.0.1/24", "10.9.0.1/24", "fd00:1::7/64", "fd00:2::1/64", "fe80::1/64"].map(parseCidr);
  const wanted = ["10.1.0.1/24", "fd00:1::1/64"].map(parseCidr);
  expect(contradicting(present, wanted, false).map(formatCidr)).toEqual(["10.9.0.1/24", "fd00:1::7/64"]);
  expect(contradicting(present, [parseCidr("fd00:3::1/64")], false)).toEqual([]);
  for (const several of [false, true])
    expect(
      contradicting([parseCidr("10.1.0.1/16")], [parseCidr("10.1.0.1/24")], several).map(formatCidr),
    ).toEqual(["10.1.0.1/16"]);
  expect(contradicting(present, wanted, true).map(formatCidr)).toEqual(["fd00:1::7/64"]);
  const single = ["10.1.0.64/32", "fd00:1::9/128"].map(parseCidr);
  expect(contradicting(single, wanted, true)).toEqual([]);
  expect(contradicting(single, wanted, false).map(formatCidr)).toEqual(["10.1.0.64/32", "fd00:1::9/128"]);
});
