import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LanRig } from "#testing/lan-rig.ts";
import { testWith } from "#testing/requires.ts";
import { macvlan } from "./main.ts";

let rig: LanRig;
beforeEach(() => {
  rig = new LanRig(macvlan);
});
afterEach(async () => {
  await rig.close();
});

const address = (last: number, subnet = "10.1.0") => ({
  type: "static",
  addresses: [{ address: `${subnet}.${last}/24` }],
});

describe("an internal network", () => {
  test("connects its containers to each other and to nobody else, and goes with the last of them", async () => {
    const before = rig.snapshot();
    const one = await rig.attach({ internal: true, ipam: address(10) });
    const two = await rig.attach({ internal: true, ipam: address(11) });
    const other = await rig.attach({ internal: true, name: "net2", ipam: address(12) });
    expect(rig.reaches(one.container, "10.1.0.11")).toBe(true);
    for (const elsewhere of ["10.1.0.12", "10.1.0.1", "10.1.0.250"])
      expect(rig.isSilent(one.container, elsewhere), elsewhere).toBe(true);
    expect(rig.links().filter((name) => /^dm-[0-9a-f]{12}$/.test(name))).toHaveLength(2);
    expect((await rig.check(two)).json).toEqual({});
    await rig.detach(one);
    await rig.detach(other);
    expect(rig.links().filter((name) => name.startsWith("dm-"))).toHaveLength(1);
    expect((await rig.check(two)).json).toEqual({});
    await rig.detach(two);
    expect(rig.snapshot()).toEqual(before);
  });

  test("has no other master", async () => {
    const { json } = await rig.add(rig.config({ internal: true, master: "up0" }), {
      netns: rig.container().path,
    });
    expect(json).toMatchObject({
      code: 7,
      msg: expect.stringContaining('"internal" network has a master of its own'),
    });
  });

  test("many at once share one link; the last takes it away", async () => {
    const before = rig.snapshot();
    const all = await Promise.all(
      Array.from({ length: 8 }, (_, index) => rig.attach({ internal: true, ipam: address(10 + index) })),
    );
    await Promise.all(all.map((each) => rig.detach(each)));
    expect(rig.snapshot()).toEqual(before);
  });

  test("a failed ADD leaves no link behind", async () => {
    const before = rig.snapshot();
    const ipam = { type: "static", addresses: [{ address: "10.1.0.10/24" }, { address: "10.1.0.10/24" }] };
    const { json } = await rig.add(rig.config({ internal: true, ipam }), { netns: rig.container().path });
    expect(json).toHaveProperty("code");
    expect(rig.snapshot()).toEqual(before);
  });

  test("GC takes the link of containers that are gone", async () => {
    const before = rig.snapshot();
    const { config } = await rig.attach({ internal: true, ipam: address(10) });
    await rig.call(macvlan, "GC", { ...config, "cni.dev/valid-attachments": [] });
    expect(rig.snapshot()).toEqual(before);
  });

  test("GC takes the link even where the journal was lost", async () => {
    const { config, containerId } = await rig.attach({ internal: true, ipam: address(10) });
    rig.host.journal.remove({ network: "net1", containerId, ifName: "eth0" }, "macvlan");
    await rig.call(macvlan, "GC", { ...config, "cni.dev/valid-attachments": [] });
    expect(rig.links().filter((name) => name.startsWith("dm-"))).toEqual([]);
  });
});

describe("a master with a VLAN in its name", () => {
  testWith(
    ["8021q"],
    "is made where it is not there, shared by networks, and goes with the last container",
    async () => {
      rig.lan.run(
        "ip link add link lan0 name v10 type vlan id 10; ip addr add 10.10.0.1/24 dev v10; ip link set v10 up",
      );
      const before = rig.snapshot();
      const one = await rig.attach({ master: "up0.10", ipam: address(10, "10.10.0") });
      const two = await rig.attach({ master: "up0.10", name: "net2", ipam: address(11, "10.10.0") });
      expect(rig.link("up0.10")).toMatchObject({ linkinfo: { info_kind: "vlan", info_data: { id: 10 } } });
      expect(rig.reaches(one.container, "10.10.0.1")).toBe(true);
      // The host is no part of that network.
      rig.lan.run("ip route add 10.1.0.250 dev v10");
      expect(rig.isSilent(rig.lan, "10.1.0.250")).toBe(true);
      expect(rig.sysctl("net/ipv6/conf/up0.10/accept_ra")).toBe("0");
      expect(rig.reaches(one.container, "10.10.0.11")).toBe(true);
      await rig.detach(one);
      expect(rig.links()).toContain("up0.10");
      expect((await rig.check(two)).json).toEqual({});
      await rig.detach(two);
      expect(rig.snapshot()).toEqual(before);
    },
  );

  testWith(["8021q"], "stays where an operator has made it", async () => {
    rig.namespace.run("ip link add link up0 name up0.10 type vlan id 10; ip link set up0.10 up");
    const before = rig.snapshot();
    const one = await rig.attach({ master: "up0.10", ipam: address(10, "10.10.0") });
    await rig.detach(one);
    expect(rig.snapshot()).toEqual(before);
  });

  testWith(["8021q"], "goes with its uplink, and DEL does not mind", async () => {
    const one = await rig.attach({ master: "up0.10", ipam: address(10, "10.10.0") });
    rig.namespace.run("ip link del up0");
    await rig.detach(one);
    expect(rig.files()).toEqual([]);
  });

  testWith(["8021q"], "that somebody has removed makes CHECK say so", async () => {
    const one = await rig.attach({ master: "up0.10", ipam: address(10, "10.10.0") });
    rig.namespace.run("ip link del up0.10");
    expect((await rig.check(one)).json["msg"]).toContain('master "up0.10" is gone');
  });

  test.each(["up0.0", "up0.4095", "up0.x", "up9.10", "up0.10.20"])("%s is none", async (master) => {
    const { json } = await rig.add(rig.config({ master, ipam: {} }), { netns: rig.container().path });
    expect(json).toMatchObject({
      code: 7,
      msg: `failed to lookup master ${JSON.stringify(master)}: Link not found`,
    });
  });
});

describe("hostAccess", () => {
  const ipam = (last: number) => ({
    type: "static",
    addresses: [{ address: `10.1.0.${last}/24`, gateway: "10.1.0.1" }, { address: `fd00:1::${last}/64` }],
  });

  test("lets the host and its containers reach each other in both families; without it they do not", async () => {
    const before = rig.snapshot();
    const deaf = await rig.attach({ master: "up0", ipam: ipam(9) });
    expect(rig.isSilent(rig.namespace, "10.1.0.9")).toBe(true);
    const one = await rig.attach({ master: "up0", hostAccess: true, ipam: ipam(10) });
    const two = await rig.attach({ master: "up0", name: "net2", hostAccess: true, ipam: ipam(11) });
    for (const each of ["10.1.0.10", "fd00:1::10", "10.1.0.11", "fd00:1::11"])
      expect(rig.reaches(rig.namespace, each), each).toBe(true);
    for (const each of ["10.1.0.250", "fd00:1::250", "10.1.0.11", "10.1.0.1"])
      expect(rig.reaches(one.container, each), each).toBe(true);
    expect((await rig.check(one)).json).toEqual({});
    await rig.detach(one);
    expect(rig.reaches(rig.namespace, "10.1.0.11")).toBe(true);
    await rig.detach(two);
    await rig.detach(deaf);
    expect(rig.snapshot()).toEqual(before);
  });

  test("neighbours on the wire go on sending to the host's own MAC address", async () => {
    await rig.attach({ master: "up0", hostAccess: true, ipam: ipam(10) });
    const uplink = rig.link("up0").address;
    for (const each of ["10.1.0.250", "fd00:1::250"]) {
      rig.lan.run(`ip neigh flush dev lan0`);
      expect(rig.reaches(rig.lan, each)).toBe(true);
      expect(rig.lan.run(`ip neigh show ${each} dev lan0`)).toContain(uplink);
    }
  });

  test("CHECK and repair's view name a route that is gone", async () => {
    const one = await rig.attach({ master: "up0", hostAccess: true, ipam: ipam(10) });
    rig.namespace.run("ip route del 10.1.0.10");
    expect((await rig.check(one)).json["msg"]).toContain("the host has no route to 10.1.0.10");
  });

  test("a route of the host's own to the container's address is left, and the ADD refused", async () => {
    rig.namespace.run("ip route add 10.1.0.10/32 dev up0");
    const before = rig.snapshot();
    const { json } = await rig.add(rig.config({ master: "up0", hostAccess: true, ipam: ipam(10) }), {
      netns: rig.container().path,
    });
    expect(json).toMatchObject({ code: 7, msg: expect.stringContaining("10.1.0.10") });
    expect(rig.snapshot()).toEqual(before);
  });

  test("needs containers that may talk to each other", async () => {
    const { json } = await rig.add(
      rig.config({ master: "up0", hostAccess: true, mode: "private", ipam: ipam(10) }),
      {
        netns: rig.container().path,
      },
    );
    expect(json).toMatchObject({ code: 7, msg: expect.stringContaining('"hostAccess"') });
  });
});
