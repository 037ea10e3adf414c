import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { dualStack, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { code } from "#conformance/reply.ts";
import { readAddresses, readLink } from "#conformance/witness.ts";

const readme = "tap README";
const needs = ["tap device"] as const;

const tapConfig = (extra: JsonObject = {}): JsonObject => plainConfig("tap", extra);

export const tapCases: readonly Case[] = [
  {
    title: "ADD makes a tap device that is up and stays, and the result names it",
    source: readme,
    needs,
    async run(lab) {
      const attachment = await lab.attach(tapConfig({ mtu: 1400 }), await lab.container());
      const link = await readLink(attachment.container.namespace, "eth0");
      expectEqual([link?.kind, link?.mtu, link?.data["type"]], ["tun", 1400, "tap"], "kind, MTU and type");
      expect(link?.flags.includes("UP") === true, "it is down");
      expectEqual(attachment.inside().mac, link?.mac, "MAC address in the result");
    },
  },
  {
    title: "owner, group, several queues and the MAC address all hold together",
    source: `${readme}; plugins: mac is ignored where owner and group are set`,
    needs,
    async run(lab) {
      const mac = "02:00:00:00:00:05";
      const config = tapConfig({ multiQueue: true, owner: 54321, group: 54322, mac });
      const { container } = await lab.attach(config, await lab.container());
      const link = await readLink(container.namespace, "eth0");
      const data = link?.data ?? {};
      expectEqual(
        [link?.mac, data["user"], data["group"], data["multi_queue"]],
        [mac, 54321, 54322, true],
        "MAC address, owner, group, queues",
      );
    },
  },
  {
    title: "the MAC address of the runtime is before that of the configuration",
    source: `${readme}, mac`,
    needs,
    async run(lab) {
      const mac = "02:00:00:00:00:06";
      const config = tapConfig({ mac: "02:00:00:00:00:05", runtimeConfig: { mac } });
      const attachment = await lab.attach(config, await lab.container());
      expectEqual(attachment.inside().mac, mac, "MAC address");
    },
  },
  {
    title: "it becomes a port of a bridge in the container",
    source: `${readme}, bridge`,
    needs,
    async run(lab) {
      const container = await lab.container();
      await container.namespace.ip("link add br0 type bridge");
      await lab.attach(tapConfig({ bridge: "br0" }), container);
      expectEqual((await readLink(container.namespace, "eth0"))?.master, "br0", "master");
      await lab.refuse(tapConfig({ bridge: "br9" }), [/br9/]);
    },
  },
  {
    title: "with an IPAM plugin it has the addresses",
    source: `${readme}, ipam`,
    needs,
    async run(lab) {
      const { container } = await lab.attach(tapConfig({ ipam: dualStack(lab) }), await lab.container());
      const addresses = (await readAddresses(container.namespace, "eth0")).map(({ cidr }) => cidr);
      expectEqual(addresses.sort(), ["10.77.0.2/24", "fd00:77::2/64"], "addresses");
    },
  },
  {
    title: "DEL may be repeated, and without a netns removes it where the namespace lives",
    source: "SPEC 1.1.0, DEL",
    needs,
    async run(lab) {
      const attachment = await lab.attach(tapConfig({ ipam: dualStack(lab) }), await lab.container());
      (await attachment.delWithResult({ netns: "" })).expectSilence();
      expect((await readLink(attachment.container.namespace, "eth0")) === undefined, "it stays");
      (await attachment.delWithResult()).expectSilence();
      await attachment.container.namespace.remove();
      (await attachment.del()).expectSilence();
    },
  },
  {
    title: "CHECK is silent, and fails once it is another device",
    source: "SPEC 1.1.0, CHECK",
    needs,
    async run(lab) {
      const attachment = await lab.attach(tapConfig({ owner: 54321 }), await lab.container());
      (await attachment.check()).expectSilence();
      const { namespace } = attachment.container;
      await namespace.ip("link del eth0");
      await namespace.ip("tuntap add eth0 mode tap user 1");
      (await attachment.check()).expectError({ names: /eth0/ });
    },
  },
  {
    title: "nonsense is refused with its field, and a name that is taken",
    source: readme,
    async run(lab) {
      await lab.refuse(tapConfig({ mtu: 7 }), [/mtu/], { code: code.invalidConfig });
      await lab.refuse(tapConfig({ owner: -1 }), [/owner/], { code: code.invalidConfig });
      const container = await lab.container();
      await container.namespace.ip("link add eth0 type bridge");
      await lab.refuse(tapConfig(), [/eth0/], { container });
    },
  },
  {
    title: "GC removes it; STATUS is silent",
    source: "SPEC 1.1.0, GC and STATUS",
    needs,
    async run(lab) {
      const config = tapConfig({ cniVersion: "1.1.0" });
      const attachment = await lab.attach(config, await lab.container());
      attachment.forget();
      (await lab.call("GC", { ...config, "cni.dev/valid-attachments": [] })).expectSilence();
      expect((await readLink(attachment.container.namespace, "eth0")) === undefined, "it stays");
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
