import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { LanRig } from "#testing/lan-rig.ts";
import { hasFeature, testWith } from "#testing/requires.ts";
import { ipvlan } from "./main.ts";

let rig: LanRig;
beforeEach(() => {
  rig = new LanRig(ipvlan);
});
afterEach(async () => {
  await rig.close();
});

const ipam = { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.10" }]] };
const address = (last: number) => ({
  type: "static",
  addresses: [{ address: `10.1.0.${last}/24`, gateway: "10.1.0.1" }, { address: `fd00:1::${last}/64` }],
});

async function refusal(config: object): Promise<unknown> {
  return (await rig.add(rig.config({ ipam, ...config }), { netns: rig.container().path })).json;
}

testWith(
  ["ipvlan"],
  "the container is on the master's wire with the master's MAC address, in both families",
  async () => {
    const { container, result } = await rig.attach({ master: "up0", ipam: address(10) });
    const uplink = rig.link("up0").address;
    expect(result.interfaces).toEqual([{ name: "eth0", mac: uplink, mtu: 1500, sandbox: container.path }]);
    expect(result.ips.map((ip) => [ip.interface, ip.address])).toEqual([
      [0, "10.1.0.10/24"],
      [0, "fd00:1::10/64"],
    ]);
    expect(rig.link("eth0", container).linkinfo).toMatchObject({
      info_kind: "ipvlan",
      info_data: { mode: "l2" },
    });
    for (const each of ["10.1.0.1", "fd00:1::1"]) expect(rig.reaches(container, each), each).toBe(true);
  },
);

testWith(
  ["ipvlan"],
  "several networks share the default route's device, and their containers reach each other",
  async () => {
    const one = await rig.attach({ ipam: address(10) });
    await rig.attach({ name: "net2", ipam: address(11) });
    expect(rig.reaches(one.container, "10.1.0.11")).toBe(true);
  },
);

testWith(["ipvlan"], "flag private keeps them apart", async () => {
  const one = await rig.attach({ master: "up0", flag: "private", ipam: address(10) });
  await rig.attach({ master: "up0", flag: "private", ipam: address(11) });
  expect(rig.isSilent(one.container, "10.1.0.11")).toBe(true);
  expect(rig.reaches(one.container, "10.1.0.1")).toBe(true);
  expect((await rig.check(one)).json).toEqual({});
});

describe("modes", () => {
  for (const mode of ["l3", "l3s"]) {
    testWith(["ipvlan"], `${mode}: the host routes between its containers and the wire`, async () => {
      const subnet = (last: number) => ({ type: "static", addresses: [{ address: `10.9.${last}.2/24` }] });
      const routes = [{ dst: "0.0.0.0/0" }];
      const one = await rig.attach({ master: "up0", mode, ipam: { ...subnet(1), routes } });
      await rig.attach({ master: "up0", mode, ipam: { ...subnet(2), routes } });
      expect(rig.link("eth0", one.container).linkinfo?.info_data).toMatchObject({ mode });
      expect(one.container.run("ip route show default")).toContain("default dev eth0");
      rig.lan.run("ip route add 10.9.0.0/16 via 10.1.0.250");
      rig.namespace.run("echo 1 > /proc/sys/net/ipv4/ip_forward");
      expect(rig.reaches(one.container, "10.9.2.2")).toBe(true);
      expect((await rig.check(one)).json).toEqual({});
    });
  }

  testWith(
    ["ipvlan"],
    "one of another mode on the same master is refused, and turns nobody over",
    async () => {
      const one = await rig.attach({ master: "up0", ipam: address(10) });
      const before = rig.snapshot();
      const container = rig.container();
      const config = rig.config({ name: "net2", master: "up0", mode: "l3", ipam: address(11) });
      const { json } = await rig.add(config, { netns: container.path, containerId: "c2" });
      expect(json).toMatchObject({
        code: 7,
        msg: `Cannot create an ipvlan of mode l3 bridge on "up0": container "${one.containerId}" (eth0, network "net1") has one of mode l2 bridge there, and all on one master have the same`,
      });
      expect(rig.snapshot()).toEqual(before);
      expect(rig.link("eth0", one.container).linkinfo?.info_data).toMatchObject({ mode: "l2" });
      await rig.detach(one);
      const { json: later } = await rig.add(config, { netns: container.path, containerId: "c2" });
      expect(later).not.toHaveProperty("code");
    },
  );

  test("others are refused", async () => {
    expect(await refusal({ master: "up0", mode: "l4" })).toMatchObject({
      code: 7,
      msg: expect.stringContaining('unknown ipvlan mode: "l4"'),
    });
    expect(await refusal({ master: "up0", flag: "public" })).toMatchObject({ code: 7 });
  });
});

describe("chained", () => {
  const previous = (interfaces: readonly JsonObject[]) => ({
    prevResult: { cniVersion: "1.1.0", interfaces, ips: [{ address: "10.1.0.77/24", gateway: "10.1.0.1" }] },
    ipam: {},
  });

  testWith(
    ["ipvlan"],
    "it stands on the interface of the previous result and takes its addresses",
    async () => {
      const before = rig.snapshot();
      const one = await rig.attach(previous([{ name: "up0" }]));
      expect(one.result.interfaces.map(({ name }) => name)).toEqual(["eth0"]);
      expect(one.result.ips).toEqual([{ interface: 0, address: "10.1.0.77/24", gateway: "10.1.0.1" }]);
      expect(rig.reaches(one.container, "10.1.0.1")).toBe(true);
      expect((await rig.check(one)).json).toEqual({});
      await rig.detach(one);
      expect(rig.snapshot()).toEqual(before);
    },
  );

  test("a previous result with several interfaces, or without name, says nothing of a master", async () => {
    for (const interfaces of [[], [{ name: "" }], [{ name: "up0" }, { name: "x" }]]) {
      expect(await refusal(previous(interfaces))).toMatchObject({
        code: 7,
        msg: expect.stringContaining("chained master failure. PrevResult lacks a single named interface"),
      });
    }
  });

  test("without one there has to be ipam", async () => {
    expect(await refusal({ master: "up0", ipam: {} })).toMatchObject({
      code: 7,
      msg: expect.stringContaining('"ipam" is missing'),
    });
  });
});

test("a MAC address of its own is refused", async () => {
  expect(await refusal({ master: "up0", runtimeConfig: { mac: "02:00:00:00:00:01" } })).toMatchObject({
    code: 7,
    msg: expect.stringContaining("MAC address of their master"),
  });
});

testWith(["ipvlan"], "a link that has macvlans is no master", async () => {
  rig.namespace.run("ip link add link up0 name mv type macvlan; ip link set mv up");
  const before = rig.snapshot();
  expect(await refusal({ master: "up0" })).toMatchObject({
    code: 7,
    msg: 'Cannot create ipvlan on "up0": it is a port of a bridge or bond, or has macvlans on it',
  });
  expect(rig.snapshot()).toEqual(before);
});

testWith(["ipvlan"], "an internal network connects its containers and nobody else", async () => {
  const before = rig.snapshot();
  const one = await rig.attach({ internal: true, ipam: address(10) });
  const two = await rig.attach({ internal: true, ipam: address(11) });
  expect(rig.reaches(one.container, "10.1.0.11")).toBe(true);
  expect(rig.isSilent(one.container, "10.1.0.1")).toBe(true);
  await rig.detach(one);
  await rig.detach(two);
  expect(rig.snapshot()).toEqual(before);
});

testWith(["ipvlan", "8021q"], "the master's VLAN interface is made and removed", async () => {
  rig.lan.run(
    "ip link add link lan0 name v10 type vlan id 10; ip addr add 10.10.0.1/24 dev v10; ip link set v10 up",
  );
  const before = rig.snapshot();
  const one = await rig.attach({
    master: "up0.10",
    ipam: { type: "static", addresses: [{ address: "10.10.0.9/24" }] },
  });
  expect(rig.reaches(one.container, "10.10.0.1")).toBe(true);
  await rig.detach(one);
  expect(rig.snapshot()).toEqual(before);
});

testWith(
  ["ipvlan"],
  "DEL needs neither namespace nor master, and an ADD that fails leaves nothing",
  async () => {
    const before = rig.snapshot();
    const one = await rig.attach({ ipam });
    await rig.detach(one);
    expect(rig.links(one.container)).toEqual(["lo"]);
    const twice = { type: "static", addresses: [{ address: "10.1.0.9/24" }, { address: "10.1.0.9/24" }] };
    const container = rig.container();
    expect((await rig.add(rig.config({ ipam: twice }), { netns: container.path })).json).toMatchObject({
      code: 7,
    });
    expect(rig.links(container)).toEqual(["lo"]);
    expect(rig.snapshot()).toEqual(before);
    const two = await rig.attach({ ipam });
    rig.namespace.run("ip link del up0");
    await rig.detach(two, { netns: two.container.path });
    expect(rig.files()).toEqual([]);
  },
);

testWith(["ipvlan"], "CHECK names a mode that somebody has changed; GC and STATUS are true", async () => {
  const one = await rig.attach({ master: "up0", ipam });
  one.container.run("ip link set eth0 type ipvlan mode l3");
  expect((await rig.check(one)).json["msg"]).toContain("has mode l3 instead of l2");
  expect(await rig.call(ipvlan, "STATUS", one.config)).toMatchObject({ exitCode: 0 });
  expect((await rig.call(ipvlan, "STATUS", { ...one.config, master: "up9" })).json).toMatchObject({
    code: 50,
  });
  await rig.call(ipvlan, "GC", { ...one.config, "cni.dev/valid-attachments": [] });
  expect(rig.files()).toEqual([]);
  expect(rig.links(one.container)).toEqual(["lo"]);
});

if (!hasFeature("ipvlan")) {
  test("a kernel without ipvlan is named, and nothing is left", async () => {
    const before = rig.snapshot();
    expect(await refusal({ master: "up0" })).toMatchObject({
      code: 50,
      msg: expect.stringContaining("built without CONFIG_IPVLAN"),
    });
    expect(rig.snapshot()).toEqual(before);
  });
}
