import type { Case } from "#conformance/case.ts";
import { plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { ping } from "#conformance/traffic.ts";
import { expectNone, inside, onWire, uplink, wireConfig } from "./child-links.ts";
import { mastersName } from "./masters-name.ts";

const readme = "ipvlan README";
const needs = ["ipvlan"] as const;
const fixed = (address: string) => ({ type: "static", addresses: [{ address }] });

export const ipvlanCases: readonly Case[] = [
  {
    title: "ADD gives an ipvlan of mode l2 with the master's MAC address; DEL takes it away",
    source: readme,
    needs,
    async run(lab) {
      const outside = await lab.outside();
      const attachment = await lab.attach(wireConfig("ipvlan", lab), await lab.container());
      const { namespace } = attachment.container;
      const link = await inside(namespace);
      const { mac } = await inside(lab.host, uplink);
      expectEqual([link.kind, link.data["mode"], link.mac], ["ipvlan", "l2", mac], "kind, mode, MAC address");
      expectEqual(attachment.inside().mac, mac, "MAC address in the result");
      expect(await ping(namespace, outside.ip4), "no answer from the wire");
      (await attachment.delWithResult()).expectSilence();
      await expectNone(namespace, "eth0");
    },
  },
  mastersName("ipvlan"),
  ...["l3", "l3s"].map(
    (mode): Case => ({
      title: `mode ${mode} is what the kernel gets, and containers reach each other`,
      source: `${readme}, mode`,
      needs,
      async run(lab) {
        await lab.outside();
        const config = (last: number) =>
          wireConfig("ipvlan", lab, { mode, ipam: fixed(`198.51.100.${last}/24`) });
        const one = await lab.attach(config(20), await lab.container());
        await lab.attach(config(21), await lab.container());
        expectEqual((await inside(one.container.namespace)).data["mode"], mode, "mode");
        expect(await ping(one.container.namespace, "198.51.100.21"), "no answer from the other container");
      },
    }),
  ),
  {
    title: "an ADD of another mode on the same master does not turn the others over",
    source: "linux, ipvlan_set_port_mode",
    reference: "the first container's mode changes",
    needs,
    async run(lab) {
      await lab.outside();
      const one = await lab.attach(
        wireConfig("ipvlan", lab, { ipam: fixed("198.51.100.20/24") }),
        await lab.container(),
      );
      const other = wireConfig("ipvlan", lab, { mode: "l3", ipam: fixed("198.51.100.21/24"), name: "net-b" });
      await lab.refuse(other, [/l3/, /l2/, /uplink0/]);
      expectEqual((await inside(one.container.namespace)).data["mode"], "l2", "mode of the first");
    },
  },
  {
    title: "chained without master and ipam, it takes both from the previous result",
    source: "ipvlan README, chained",
    needs,
    async run(lab) {
      const outside = await lab.outside();
      const prevResult = {
        cniVersion: "1.0.0",
        interfaces: [{ name: uplink }],
        ips: [{ address: "198.51.100.30/24" }],
      };
      const attachment = await lab.attach(plainConfig("ipvlan", { prevResult }), await lab.container());
      expectEqual(attachment.ip(), "198.51.100.30", "address");
      expect(await ping(attachment.container.namespace, outside.ip4), "no answer from the wire");
    },
  },
  {
    title: "an unknown mode, a master that is not there, and no addresses at all are refused",
    source: "plugins ipvlan: unknown ipvlan mode; failed to lookup master",
    async run(lab) {
      await lab.outside();
      await lab.refuse(wireConfig("ipvlan", lab, { mode: "bogus" }), [/unknown ipvlan mode/, /bogus/]);
      await lab.refuse(plainConfig("ipvlan", { master: "eth9", ipam: onWire(lab) }), /eth9/);
      await lab.refuse(plainConfig("ipvlan", { master: uplink }), /./);
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
      await lab.refuse(wireConfig("ipvlan", lab, { ipam }), /address/, { container });
      await expectNone(container.namespace, "eth0");
    },
  },
  {
    title: "DEL works without the master, and again",
    source: "SPEC 1.1.0, DEL: missing resources",
    needs,
    async run(lab) {
      const outside = await lab.outside();
      await lab.host.ip(`route add default via ${outside.ip4}`);
      const config = plainConfig("ipvlan", { ipam: onWire(lab) });
      const attachment = await lab.attach(config, await lab.container());
      await lab.host.ip(`link del ${uplink}`);
      (await attachment.delWithResult()).expectSilence();
      (await attachment.delWithResult({ netns: "" })).expectSilence();
      await lab.rebase();
    },
  },
  {
    title: "CHECK is silent, and names an address that is gone",
    source: "SPEC 1.1.0, CHECK",
    needs,
    async run(lab) {
      await lab.outside();
      const attachment = await lab.attach(wireConfig("ipvlan", lab), await lab.container());
      (await attachment.check()).expectSilence();
      await attachment.container.namespace.ip("address flush dev eth0");
      (await attachment.check()).expectError({ names: /198\.51\.100\./ });
    },
  },
];
