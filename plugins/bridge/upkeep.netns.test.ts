import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { Nftables } from "#nftables/nftables.ts";
import { type Attached, BridgeRig } from "#testing/bridge-rig.ts";
import { bridge } from "./main.ts";

let rig: BridgeRig;
beforeEach(() => {
  rig = new BridgeRig();
});
afterEach(async () => {
  await rig.close();
});

const everything = {
  isDefaultGateway: true,
  ipMasq: true,
  macspoofchk: true,
  hairpinMode: true,
  ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]] },
};

describe("CHECK", () => {
  test("finds nothing wrong with what ADD has made, even for a result of an older version", async () => {
    const one = await rig.attach(everything);
    expect(await rig.check(one)).toMatchObject({ exitCode: 0, json: {} });
    const old = { ...one, config: { ...one.config, cniVersion: "0.4.0" } };
    expect(await rig.check(old)).toMatchObject({ exitCode: 0, json: {} });
  });

  test("goes by the previous result where a chained plugin has changed something", async () => {
    const one = await rig.attach();
    one.container.run("ip link set eth0 address 02:00:00:00:00:77");
    const interfaces = one.result.interfaces.map((each) =>
      each.sandbox ? { ...each, mac: "02:00:00:00:00:77" } : each,
    );
    expect(await rig.check({ ...one, result: { ...one.result, interfaces } })).toMatchObject({ exitCode: 0 });
    expect(await rig.check(one)).toMatchObject({ exitCode: 1 });
  });

  const port = ({ result }: Attached) => result.interfaces[1]?.name ?? "";

  test.each<[string, (one: Attached) => void, string]>([
    ["the bridge is gone", () => rig.namespace.run("ip link del br1"), 'bridge "br1" is gone'],
    ["the bridge is down", () => rig.namespace.run("ip link set br1 down"), 'bridge "br1" is down'],
    [
      "the port left the bridge",
      (one) => rig.namespace.run(`ip link set ${port(one)} nomaster`),
      "is not a port of",
    ],
    ["the port is down", (one) => rig.namespace.run(`ip link set ${port(one)} down`), "is down"],
    [
      "the port lost its flag",
      (one) => rig.namespace.run(`bridge link set dev ${port(one)} hairpin off`),
      "without hairpin",
    ],
    [
      "the port has another MAC address",
      (one) => rig.namespace.run(`ip link set ${port(one)} address 02:00:00:00:00:01`),
      "02:00:00:00:00:01",
    ],
    [
      "the gateway lost its address",
      () => rig.namespace.run("ip addr del 10.1.0.1/24 dev br1"),
      "10.1.0.1/24",
    ],
    ["the interface is gone", (one) => one.container.run("ip link del eth0"), "is gone"],
    ["the interface is down", (one) => one.container.run("ip link set eth0 down"), '"eth0" is down'],
    [
      "the interface has another MAC address",
      (one) => one.container.run("ip link set eth0 address 02:00:00:00:00:01"),
      "02:00:00:00:00:01",
    ],
    ["an address is gone", (one) => one.container.run("ip addr del fd00:1::2/64 dev eth0"), "fd00:1::2/64"],
    ["a route is gone", (one) => one.container.run("ip route del default"), "0.0.0.0/0 via 10.1.0.1"],
    [
      "a rule is gone",
      () => rig.namespace.run("nft delete element inet netctl masquerade4 '{ 10.1.0.2 }'"),
      "masquerade4",
    ],
    ["the MAC check is gone", () => rig.namespace.run("nft delete table bridge netctl"), "mac_checked"],
    [
      "the host forwards no longer",
      () => rig.namespace.run("echo 0 > /proc/sys/net/ipv4/ip_forward"),
      "does not forward IPv4",
    ],
    [
      "the lease is gone",
      () => rig.namespace.run(`rm -r ${rig.host.directories.leases}`),
      "Failed to find address",
    ],
  ])("says so when %s", async (_, spoil, named) => {
    const one = await rig.attach(everything);
    spoil(one);
    const { exitCode, json } = await rig.check(one);
    expect(exitCode).toBe(1);
    expect(JSON.stringify(json)).toContain(JSON.stringify(named).slice(1, -1));
  });

  test("names all that is wrong at once", async () => {
    const one = await rig.attach(everything);
    one.container.run("ip route del default; ip addr del fd00:1::2/64 dev eth0");
    const { json } = await rig.check(one);
    expect(json["msg"]).toMatch(/fd00:1::2\/64.*; .*0\.0\.0\.0\/0/);
  });
});

describe("GC", () => {
  const gc = async (valid: readonly JsonObject[] | undefined, extra: JsonObject = {}) => {
    const list = valid === undefined ? {} : { "cni.dev/valid-attachments": valid };
    return await rig.call(bridge, "GC", rig.config({ ...everything, ...extra, ...list }));
  };

  test("removes what is not in the list, and leaves what is", async () => {
    const stays = await rig.attach(everything);
    const before = rig.snapshot();
    const goes = await rig.attach(everything);
    const dead = await rig.attach(everything);
    dead.container.remove();
    expect(await gc([{ containerID: stays.containerId, ifname: "eth0" }])).toMatchObject({
      exitCode: 0,
      json: {},
    });
    expect(rig.snapshot()).toEqual(before);
    expect(rig.links(goes.container)).toEqual(["lo"]);
    expect(rig.reaches(stays.container, "10.1.0.1")).toBe(true);
  });

  test("an empty list means that all is stale; then the network's own elements go too", async () => {
    await rig.attach(everything);
    expect(await gc([])).toMatchObject({ exitCode: 0 });
    expect(rig.elements()).toEqual([]);
    expect(rig.files()).toEqual([]);
  });

  test("no list means that nothing is known", async () => {
    await rig.attach(everything);
    const before = rig.snapshot();
    expect(await gc(undefined)).toMatchObject({ exitCode: 0 });
    expect(rig.snapshot()).toEqual(before);
  });

  test("another network on the same bridge is left alone", async () => {
    const ipam = { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.100" }]] };
    const other = await rig.attach({ ...everything, name: "net2", ipam });
    await gc([]);
    expect(rig.reaches(other.container, "10.1.0.1")).toBe(true);
    expect(await rig.check(other)).toMatchObject({ exitCode: 0 });
  });
});

describe("STATUS", () => {
  const status = async (extra: JsonObject = {}) => await rig.call(bridge, "STATUS", rig.config(extra));

  test("is fine where ADD would be, and changes nothing", async () => {
    const before = rig.snapshot();
    expect(await status(everything)).toMatchObject({ exitCode: 0, json: {} });
    expect(rig.snapshot()).toEqual(before);
  });

  test("says 7 for a configuration that no ADD could use", async () => {
    expect(await status({ vlan: 5000 })).toMatchObject({ json: { code: 7 } });
  });

  test("says 50 where the bridge's name is taken by something else", async () => {
    rig.namespace.run("ip link add br1 type veth peer other");
    expect(await status()).toMatchObject({
      json: { code: 50, msg: expect.stringContaining("br1") as string },
    });
  });

  test("says 50 without nftables, if it would be needed", async () => {
    rig.replace({
      nftables: new Nftables({ namespacePath: rig.namespace.path, searchPath: "/nonexistent" }),
    });
    class WithoutNft extends Nftables {
      override async usable(): Promise<void> {
        throw new Error("Cannot use nftables: nft is not installed");
      }
    }
    rig.replace({ nftables: new WithoutNft({ namespacePath: rig.namespace.path }) });
    expect(await status({ ipMasq: true })).toMatchObject({ json: { code: 50 } });
    expect(await status({ macspoofchk: true })).toMatchObject({ json: { code: 50 } });
    expect(await status()).toMatchObject({ exitCode: 0 });
  });

  test("says what the IPAM plugin says: 50 for an exhausted pool", async () => {
    const ipam = {
      type: "host-local",
      ranges: [[{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.5", rangeEnd: "10.1.0.5" }]],
    };
    expect(await status({ ipam })).toMatchObject({ exitCode: 0 });
    await rig.attach({ ipam });
    expect(await status({ ipam })).toMatchObject({ json: { code: 50 } });
  });
});
