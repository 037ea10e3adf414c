import type { Case } from "#conformance/case.ts";
import { hostLocal, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { ping } from "#conformance/traffic.ts";
import { enterVlan, expectNone, inside, uplink, wireConfig } from "./child-links.ts";

const readme = "vlan README";
const needs = ["8021q"] as const;

export const vlanCases: readonly Case[] = [
  {
    title: "ADD gives the container one VLAN of the master; DEL takes it away",
    source: readme,
    needs,
    async run(lab) {
      const outside = await lab.outside();
      await enterVlan(outside, 7, "10.77.0.1/24");
      const config = wireConfig("vlan", lab, {
        vlanId: 7,
        ipam: hostLocal(lab, { rangeStart: "10.77.0.10" }),
      });
      const attachment = await lab.attach(config, await lab.container());
      const { namespace } = attachment.container;
      const link = await inside(namespace);
      expectEqual([link.kind, link.data["id"]], ["vlan", 7], "kind and VLAN ID");
      expectEqual(attachment.inside().mac, link.mac, "MAC address in the result");
      expect(await ping(namespace, "10.77.0.1"), "no answer from the VLAN");
      (await attachment.check()).expectSilence();
      (await attachment.delWithResult()).expectSilence();
      await expectNone(namespace, "eth0");
    },
  },
  {
    title: "the container's interface may have the master's name",
    source: `${readme}, master; linux 6.1 looks for the name in both namespaces`,
    needs,
    async run(lab) {
      const outside = await lab.outside();
      await enterVlan(outside, 7, "10.77.0.1/24");
      await lab.host.ip(`link set ${uplink} down`);
      await lab.host.ip(`link set ${uplink} name eth0`);
      await lab.host.ip("link set eth0 up");
      await lab.rebase();
      const ipam = hostLocal(lab, { rangeStart: "10.77.0.10" });
      const config = wireConfig("vlan", lab, { master: "eth0", vlanId: 7, ipam });
      const attachment = await lab.attach(config, await lab.container());
      const { namespace } = attachment.container;
      expectEqual((await inside(namespace)).kind, "vlan", "kind of eth0");
      expect(await ping(namespace, "10.77.0.1"), "no answer from the wire");
      (await attachment.delWithResult()).expectSilence();
      await expectNone(namespace, "eth0");
    },
  },
  {
    title: "configurations without master, with a VLAN ID or MTU that can't be, are refused",
    source: 'plugins vlan: "master" field is required; invalid VLAN ID; invalid MTU',
    reference: "does not name the master that is not there",
    async run(lab) {
      await lab.outside();
      const ipam = hostLocal(lab);
      await lab.refuse(plainConfig("vlan", { vlanId: 7, ipam }), /"master" field is required/);
      await lab.refuse(wireConfig("vlan", lab, { vlanId: 4095 }), [/4095/, /between 0 and/]);
      await lab.refuse(wireConfig("vlan", lab, { vlanId: 7, mtu: 9000 }), [/9000/, /1500/]);
      await lab.refuse(plainConfig("vlan", { master: "eth9", vlanId: 7, ipam }), /eth9/);
    },
  },
  {
    title: "a VLAN that somebody has is refused, and the host stays as it was",
    source: "linux: one interface for each VLAN of a link",
    needs,
    async run(lab) {
      await lab.outside();
      await lab.attach(wireConfig("vlan", lab, { vlanId: 7 }), await lab.container());
      await lab.refuse(wireConfig("vlan", lab, { vlanId: 7, name: "net-b" }), /./);
    },
  },
  {
    title: "a failed ADD leaves no interface",
    source: "SPEC 1.1.0, ADD: error",
    reference: "the interface stays",
    needs,
    async run(lab) {
      await lab.outside();
      const container = await lab.container();
      const ipam = { type: "static", addresses: [{ address: "not an address" }] };
      await lab.refuse(wireConfig("vlan", lab, { vlanId: 7, ipam }), /address/, { container });
      await expectNone(container.namespace, "eth0");
    },
  },
  {
    title: "DEL frees the address when the master has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "reads the master's MTU first",
    needs,
    async run(lab) {
      await lab.outside();
      const ipam = hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" });
      const attachment = await lab.attach(
        wireConfig("vlan", lab, { vlanId: 7, ipam }),
        await lab.container(),
      );
      await lab.host.ip(`link del ${uplink}`);
      (await attachment.delWithResult()).expectSilence();
      await lab.rebase();
    },
  },
];
