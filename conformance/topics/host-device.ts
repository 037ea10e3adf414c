import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { gateway4, hostLocal, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { code } from "#conformance/reply.ts";
import { ping } from "#conformance/traffic.ts";
import { readLink } from "#conformance/witness.ts";

const readme = "host-device README";
const mac = "02:00:00:00:00:01";

/** Gives the host a device, with a neighbour behind it that has the gateway's address. */
async function withDevice(lab: Lab): Promise<void> {
  const neighbour = await lab.namespace("neighbour");
  await lab.host.ip(`link add nic0 mtu 1400 address ${mac} type veth peer name far0 netns ${neighbour.name}`);
  await neighbour.ipBatch(["link set far0 up", `address add ${gateway4}/24 dev far0`]);
}

function deviceConfig(lab: Lab, extra: JsonObject = {}): JsonObject {
  return plainConfig("host-device", { device: "nic0", ipam: hostLocal(lab), ...extra });
}

async function expectHome(lab: Lab): Promise<void> {
  const link = await readLink(lab.host, "nic0");
  expect(link !== undefined, "the host has no nic0");
  expectEqual([link.mac, link.mtu], [mac, 1400], "MAC address and MTU of the device at home");
}

export const hostDeviceCases: readonly Case[] = [
  {
    title: "ADD moves the device in under CNI_IFNAME, with addresses that work; DEL brings it back",
    source: readme,
    async run(lab) {
      await withDevice(lab);
      const attachment = await lab.attach(deviceConfig(lab), await lab.container(), { ifName: "net1" });
      expect((await readLink(lab.host, "nic0")) === undefined, "the host still has nic0");
      const inside = attachment.inside();
      expectEqual([inside.name, inside.mac], ["net1", mac], "name and MAC address in the result");
      expect(await ping(attachment.container.namespace, gateway4), "no answer from the neighbour");
      (await attachment.delWithResult()).expectSilence();
      await expectHome(lab);
    },
  },
  {
    title: "the device is found by its MAC address",
    source: `${readme}, hwaddr`,
    async run(lab) {
      await withDevice(lab);
      const config = plainConfig("host-device", { hwaddr: mac });
      const attachment = await lab.attach(config, await lab.container());
      (await attachment.delWithResult()).expectSilence();
      await expectHome(lab);
    },
  },
  {
    title: "ADD without IPAM gives the interface and no addresses",
    source: `${readme}, ipam`,
    async run(lab) {
      await withDevice(lab);
      const { result } = await lab.attach(
        plainConfig("host-device", { device: "nic0" }),
        await lab.container(),
      );
      expectEqual(result.ips.length, 0, "number of addresses");
    },
  },
  {
    title: "CNI_ARGS that are another plugin's refuse nothing",
    source: "plugins host-device: reads no CNI_ARGS",
    async run(lab) {
      await withDevice(lab);
      const config = plainConfig("host-device", { device: "nic0" });
      const attachment = await lab.attach(config, await lab.container(), { args: "COLOUR=blue" });
      (await attachment.delWithResult({ args: "COLOUR=blue" })).expectSilence();
      await expectHome(lab);
    },
  },
  {
    title: "an IPAM plugin that fails leaves the device on the host",
    source: "SPEC 1.1.0, ADD: error",
    reference: "leaves the device in the container",
    async run(lab) {
      await withDevice(lab);
      const ipam = hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" });
      const other = lab.sibling(await lab.container());
      (await lab.call("ADD", plainConfig("host-local", { ipam }), { container: other })).expectJson();
      await lab.refuse(deviceConfig(lab, { ipam }), [/10\.77\.0\.7/]);
      await expectHome(lab);
      (await lab.call("DEL", plainConfig("host-local", { ipam }), { container: other })).expectSilence();
    },
  },
  {
    title: "DEL with an empty netns frees the address and brings the device back",
    source: "plugins#1196",
    reference: "returns before the IPAM plugin is asked, and leaves the device",
    async run(lab) {
      await withDevice(lab);
      const ipam = hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" });
      const attachment = await lab.attach(deviceConfig(lab, { ipam }), await lab.container());
      (await attachment.delWithResult({ netns: "" })).expectSilence();
      await expectHome(lab);
      const next = await lab.attach(deviceConfig(lab, { ipam }), await lab.container());
      expectEqual(next.ip(), "10.77.0.7", "address of the next container");
    },
  },
  {
    title: "DEL may be repeated",
    source: "SPEC 1.1.0, DEL: must accept repeated calls",
    reference: "fails once the link is gone",
    async run(lab) {
      await withDevice(lab);
      const attachment = await lab.attach(deviceConfig(lab), await lab.container());
      (await attachment.delWithResult()).expectSilence();
      (await attachment.delWithResult()).expectSilence();
      (await attachment.del({ netns: "" })).expectSilence();
      await expectHome(lab);
    },
  },
  {
    title: "a device that came back by itself, under the name it had inside, gets its own again",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "the vanished namespace is an error",
    async run(lab) {
      await withDevice(lab);
      const attachment = await lab.attach(deviceConfig(lab), await lab.container());
      // What the kernel does with hardware when a namespace ends.
      await attachment.container.namespace.ip(`link set eth0 netns ${lab.host.name}`);
      await attachment.container.namespace.remove();
      (await attachment.delWithResult()).expectSilence();
      await expectHome(lab);
    },
  },
  {
    title: "CHECK is silent, and fails once the interface is down or without its address",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      await withDevice(lab);
      const attachment = await lab.attach(deviceConfig(lab), await lab.container());
      (await attachment.check()).expectSilence();
      await attachment.container.namespace.ip("address flush dev eth0");
      (await attachment.check()).expectError({ names: /10\.77\.0\./ });
    },
  },
  {
    title: "a configuration that names no device, or none that is there, is refused",
    source: readme,
    async run(lab) {
      await lab.refuse(plainConfig("host-device"), [/device/, /hwaddr/, /kernelpath/, /pciBusID/]);
      await lab.refuse(plainConfig("host-device", { device: "nic9" }), [/nic9/]);
      await lab.refuse(plainConfig("host-device", { kernelpath: "/tmp/x" }), [/\/sys\/devices\//]);
    },
  },
  {
    title: "a name that the container has already is refused, and the device stays",
    source: "SPEC 1.1.0, ADD: interface exists",
    async run(lab) {
      await withDevice(lab);
      const container = await lab.container();
      await container.namespace.ip("link add eth0 type bridge");
      await lab.refuse(deviceConfig(lab), [/eth0/], { container });
      await expectHome(lab);
    },
  },
  {
    title: "GC brings back what a container without DEL has taken",
    source: "SPEC 1.1.0, GC",
    reference: "GC does nothing",
    async run(lab) {
      await withDevice(lab);
      const attachment = await lab.attach(deviceConfig(lab, { cniVersion: "1.1.0" }), await lab.container());
      attachment.forget();
      const valid = { ...attachment.config, "cni.dev/valid-attachments": [] };
      (await lab.call("GC", valid)).expectSilence();
      await expectHome(lab);
    },
  },
  {
    title: "the host's own namespace is refused, code 8",
    source: "cni skel, ErrInvalidNetNS",
    async run(lab) {
      await withDevice(lab);
      await lab.refuse(deviceConfig(lab), [], { netns: lab.host.path, code: code.invalidNamespace });
    },
  },
];
