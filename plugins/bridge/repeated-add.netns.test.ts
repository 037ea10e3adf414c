import { afterEach, beforeEach, expect, test } from "vitest";
import { BridgeRig } from "#testing/bridge-rig.ts";

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
  ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]] },
};

test("a repeated ADD, whose caller never heard of the first, gets the same result and changes nothing", async () => {
  const { container, containerId, config, result } = await rig.attach(everything);
  const before = rig.snapshot();
  const again = await rig.add(config, { netns: container.path, containerId });
  expect(again.json).toEqual(result);
  expect(rig.snapshot()).toEqual(before);
});

test("it gets the result in the version that it asks for", async () => {
  const config = { ...rig.config(everything), cniVersion: "0.3.1" };
  const container = rig.container();
  const first = await rig.add(config, { netns: container.path });
  const again = await rig.add(config, { netns: container.path });
  expect(first.json).toMatchObject({ cniVersion: "0.3.1" });
  expect(again.json).toEqual(first.json);
});

test.each([
  ["rules", () => rig.namespace.run("nft flush set inet netctl masquerade4")],
  [
    "its address",
    ({ path }: { path: string }) => rig.namespace.run(`nsenter --net=${path} ip addr flush eth0`),
  ],
  ["its lease", () => rig.namespace.run(`rm ${rig.host.directories.leases}/net1/10.1.0.2`)],
])("where %s have gone meanwhile, it attaches anew", async (_, spoil) => {
  const { container, containerId, config } = await rig.attach(everything);
  spoil(container);
  const { json } = await rig.add(config, { netns: container.path, containerId });
  expect(json["interfaces"]).toHaveLength(3);
  expect(rig.reaches(container, "10.1.0.1")).toBe(true);
  expect(rig.elements().filter((element) => element.startsWith("masquerade4"))).toHaveLength(1);
  await rig.detach({ containerId, config });
  expect(rig.links(container)).toEqual(["lo"]);
  expect(rig.files()).toEqual([]);
});

test("with another configuration it is refused, and the first goes on working", async () => {
  const { container, containerId, config } = await rig.attach(everything);
  const before = rig.snapshot();
  const { json } = await rig.add({ ...config, mtu: 1400 }, { netns: container.path, containerId });
  expect(json).toMatchObject({ code: 4, msg: 'container already has an interface named "eth0"' });
  expect(rig.snapshot()).toEqual(before);
});
