import { afterEach, beforeEach, expect, test } from "vitest";
import { InterfaceRig } from "#testing/interface-rig.ts";
import { hasFeature, testWith } from "#testing/requires.ts";
import { dummy } from "./main.ts";

let rig: InterfaceRig;
beforeEach(() => {
  rig = new InterfaceRig(dummy);
});
afterEach(async () => {
  await rig.close();
});

const ipam = { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]] };

testWith(["dummy"], "the container has an interface with addresses, and everything goes again", async () => {
  const before = rig.snapshot();
  const one = await rig.attach({ ipam });
  const inside = rig.link("eth0", one.container);
  expect(inside).toMatchObject({ linkinfo: { info_kind: "dummy" } });
  expect(one.result.interfaces).toEqual([
    { name: "eth0", mac: inside.address, mtu: 1500, sandbox: one.container.path },
  ]);
  expect(rig.addresses("eth0", one.container)).toEqual(["10.1.0.2/24", "fd00:1::2/64"]);
  expect(rig.reaches(one.container, "fd00:1::2")).toBe(true);
  expect((await rig.check(one)).json).toEqual({});
  one.container.run("ip link set eth0 down");
  expect((await rig.check(one)).json["msg"]).toContain('"eth0" is down');
  await rig.detach(one);
  expect(rig.links(one.container)).toEqual(["lo"]);
  expect(rig.snapshot()).toEqual(before);
});

testWith(["dummy"], "an interface of that name is left alone; STATUS and GC are true", async () => {
  const container = rig.container();
  container.run("ip link add eth0 type veth peer other");
  const { json } = await rig.add(rig.config({ ipam }), { netns: container.path });
  expect(json).toMatchObject({ code: 4, msg: 'container already has an interface named "eth0"' });
  const one = await rig.attach({ ipam });
  expect(await rig.call(dummy, "STATUS", one.config)).toMatchObject({ exitCode: 0 });
  expect(rig.links()).toEqual(["lo"]);
  await rig.call(dummy, "GC", { ...one.config, "cni.dev/valid-attachments": [] });
  expect(rig.links(one.container)).toEqual(["lo"]);
});

test("without IPAM it is refused", async () => {
  const { json } = await rig.add(rig.config({ ipam: {} }), { netns: rig.container().path });
  expect(json).toMatchObject({
    code: 7,
    msg: expect.stringContaining("dummy interface requires an IPAM configuration"),
  });
});

if (!hasFeature("dummy")) {
  test("a kernel without dummy is named by ADD and by STATUS", async () => {
    const before = rig.snapshot();
    const { json } = await rig.add(rig.config({ ipam }), { netns: rig.container().path });
    expect(json).toMatchObject({ code: 50, msg: expect.stringContaining("CONFIG_DUMMY") });
    expect((await rig.call(dummy, "STATUS", rig.config({ ipam }))).json).toMatchObject({ code: 50 });
    expect(rig.snapshot()).toEqual(before);
  });
}
