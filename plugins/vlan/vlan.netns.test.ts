import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LanRig } from "#testing/lan-rig.ts";
import { testWith } from "#testing/requires.ts";
import { vlan } from "./main.ts";

let rig: LanRig;
beforeEach(() => {
  rig = new LanRig(vlan);
});
afterEach(async () => {
  await rig.close();
});

const ipam = { type: "host-local", ranges: [[{ subnet: "10.9.0.0/24", rangeStart: "10.9.0.10" }]] };

async function refusal(config: object): Promise<unknown> {
  return (await rig.add(rig.config({ ipam, ...config }), { netns: rig.container().path })).json;
}

testWith(["8021q"], "the container sends and receives one VLAN of the master", async () => {
  rig.lan.run(
    "ip link add link lan0 name v7 type vlan id 7; ip addr add 10.9.0.1/24 dev v7; ip link set v7 up",
  );
  const before = rig.snapshot();
  const one = await rig.attach({ master: "up0", vlanId: 7, mtu: 1400, ipam });
  const inside = rig.link("eth0", one.container);
  expect(one.result.interfaces).toEqual([
    { name: "eth0", mac: inside.address, mtu: 1400, sandbox: one.container.path },
  ]);
  expect(inside.linkinfo).toMatchObject({ info_kind: "vlan", info_data: { id: 7, protocol: "802.1Q" } });
  expect(rig.reaches(one.container, "10.9.0.1")).toBe(true);
  expect((await rig.check(one)).json).toEqual({});
  await rig.detach(one);
  expect(rig.links(one.container)).toEqual(["lo"]);
  expect(rig.snapshot()).toEqual(before);
});

testWith(["8021q"], "a VLAN that another container has on the master is refused with its name", async () => {
  const one = await rig.attach({ master: "up0", vlanId: 7, ipam });
  const before = rig.snapshot();
  expect(await refusal({ master: "up0", vlanId: 7, name: "net2" })).toMatchObject({
    code: 7,
    msg: `Cannot create VLAN 7 on "up0": container "${one.containerId}" (eth0, network "net1") has it`,
  });
  expect(rig.snapshot()).toEqual(before);
  rig.namespace.run("ip link add link up0 name mine type vlan id 8");
  expect(await refusal({ master: "up0", vlanId: 8 })).toMatchObject({
    code: 7,
    msg: expect.stringContaining("it has an interface for this VLAN already"),
  });
});

testWith(["8021q"], "the master may be in the container", async () => {
  const container = rig.container();
  container.run("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up");
  const config = rig.config({ master: "m0", vlanId: 5, linkInContainer: true, ipam });
  const { json } = await rig.add(config, { netns: container.path });
  expect(json).not.toHaveProperty("code");
  expect(container.run("ip -d link show eth0")).toContain("eth0@m0");
  await rig.detach({ containerId: "c1", config }, { netns: container.path });
  expect(rig.links(container)).toEqual(["lo", "m0", "m1"]);
});

testWith(["8021q"], "DEL works when the master has gone, and leaks no address", async () => {
  const one = await rig.attach({ master: "up0", vlanId: 7, ipam });
  rig.namespace.run("ip link del up0");
  await rig.detach(one, { netns: one.container.path });
  expect(rig.files()).toEqual([]);
});

testWith(["8021q"], "GC removes what is not in the list; CHECK names another VLAN ID", async () => {
  const one = await rig.attach({ master: "up0", vlanId: 7, ipam });
  const config = { ...one.config, vlanId: 9 };
  expect((await rig.check({ ...one, config })).json["msg"]).toContain("VLAN ID 7 instead of 9");
  await rig.call(vlan, "GC", { ...one.config, "cni.dev/valid-attachments": [] });
  expect(rig.links(one.container)).toEqual(["lo"]);
  expect(rig.files()).toEqual([]);
});

describe("refused, with nothing changed", () => {
  test.each([
    [{}, '"master" field is required'],
    [{ master: "up0", vlanId: 4095 }, "must be between 0 and 4094 inclusive"],
    [{ master: "up0", vlanId: -1 }, "must be between 0 and 4094 inclusive"],
    [{ master: "up9", vlanId: 7 }, 'failed to lookup master "up9": Link not found'],
    [{ master: "up0", vlanId: 7, mtu: 9000 }, "invalid MTU 9000, must be [0, master MTU(1500)]"],
    [{ master: "up0", vlanId: 7, ipam: {} }, '"ipam" is missing'],
  ])("%j", async (config, message) => {
    const before = rig.snapshot();
    expect(await refusal(config)).toMatchObject({ code: 7, msg: expect.stringContaining(message) });
    expect(rig.snapshot()).toEqual(before);
  });
});

test("STATUS says which master is missing or down", async () => {
  const status = async (master: string) =>
    (await rig.call(vlan, "STATUS", rig.config({ master, vlanId: 7, ipam }))).json;
  expect(await status("up0")).toEqual({});
  expect(await status("up9")).toMatchObject({ code: 50, msg: expect.stringContaining("up9") });
  rig.namespace.run("ip link set up0 down");
  expect(await status("up0")).toMatchObject({ code: 50, msg: 'master "up0" is down' });
});
