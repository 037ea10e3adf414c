import type { Case } from "#conformance/case.ts";
import { plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { code } from "#conformance/reply.ts";
import { ping } from "#conformance/traffic.ts";
import { readLink, readLinks } from "#conformance/witness.ts";
import { enterVlan, expectNone, inside, onWire, uplink, wireConfig } from "./child-links.ts";
import { mastersName } from "./masters-name.ts";

const readme = "macvlan README";
const extension = "unknown to the reference";
const fixed = (address: string) => ({ type: "static", addresses: [{ address }] });

export const macvlanCases: readonly Case[] = [
  {
    title: "ADD gives a macvlan of mode bridge on the master, with addresses that work; DEL takes it away",
    source: readme,
    async run(lab) {
      const outside = await lab.outside();
      const attachment = await lab.attach(wireConfig("macvlan", lab), await lab.container());
      const { namespace } = attachment.container;
      const link = await inside(namespace);
      expectEqual([link.kind, link.data["mode"], link.mtu], ["macvlan", "bridge", 1500], "kind, mode, MTU");
      expectEqual([attachment.inside().name, attachment.inside().mac], ["eth0", link.mac], "result");
      expectEqual(attachment.result.interfaces.length, 1, "number of interfaces in the result");
      expect(await ping(namespace, outside.ip4), "no answer from the wire");
      (await attachment.delWithResult()).expectSilence();
      await expectNone(namespace, "eth0");
    },
  },
  ...["private", "vepa", "passthru"].map(
    (mode): Case => ({
      title: `mode ${mode} is what the kernel gets`,
      source: `${readme}, mode`,
      async run(lab) {
        await lab.outside();
        const attachment = await lab.attach(wireConfig("macvlan", lab, { mode }), await lab.container());
        expectEqual((await inside(attachment.container.namespace)).data["mode"], mode, "mode");
      },
    }),
  ),
  {
    title: "without master it is the default route's device",
    source: `${readme}, master`,
    async run(lab) {
      const outside = await lab.outside();
      await lab.host.ip(`route add default via ${outside.ip4}`);
      const config = plainConfig("macvlan", { ipam: onWire(lab) });
      const attachment = await lab.attach(config, await lab.container());
      expect(await ping(attachment.container.namespace, outside.ip4), "no answer from the wire");
    },
  },
  {
    title: "without default route, and with a master that is not there, it is refused",
    source: "plugins macvlan: no default route interface found; failed to lookup master",
    async run(lab) {
      await lab.refuse(plainConfig("macvlan", { ipam: onWire(lab) }), /no default route interface found/);
      await lab.refuse(plainConfig("macvlan", { master: "eth9", ipam: onWire(lab) }), /eth9/);
    },
  },
  {
    title: "an unknown mode and an MTU above the master's are refused",
    source: "plugins macvlan: unknown macvlan mode; invalid MTU",
    async run(lab) {
      await lab.outside();
      await lab.refuse(wireConfig("macvlan", lab, { mode: "bogus" }), [/unknown macvlan mode/, /bogus/]);
      await lab.refuse(wireConfig("macvlan", lab, { mtu: 9000 }), [/invalid MTU 9000/, /1500/]);
    },
  },
  {
    title: "mtu and mac are set; runtimeConfig.mac counts before CNI_ARGS, that before mac",
    source: readme,
    async run(lab) {
      await lab.outside();
      const mac = (last: number) => `02:00:00:00:00:0${last}`;
      const given = async (extra: object, args?: string) => {
        const config = wireConfig("macvlan", lab, { mtu: 1400, mac: mac(1), ...extra });
        const attachment = await lab.attach(
          config,
          await lab.container(),
          args === undefined ? {} : { args },
        );
        const link = await inside(attachment.container.namespace);
        return [link.mac, link.mtu];
      };
      const args = `IgnoreUnknown=1;MAC=${mac(2)}`;
      expectEqual(await given({}), [mac(1), 1400], "mac");
      expectEqual(await given({}, args), [mac(2), 1400], "CNI_ARGS");
      expectEqual(await given({ runtimeConfig: { mac: mac(3) } }, args), [mac(3), 1400], "runtimeConfig");
    },
  },
  mastersName("macvlan"),
  {
    title: "without ipam the interface is up and has no address",
    source: `${readme}, ipam`,
    async run(lab) {
      await lab.outside();
      const config = plainConfig("macvlan", { master: uplink });
      const { container, result } = await lab.attach(config, await lab.container());
      expectEqual(result.ips.length, 0, "number of addresses");
      expect((await inside(container.namespace)).flags.includes("UP"), "eth0 is down");
    },
  },
  {
    title: "an IPAM plugin that fails leaves no interface",
    source: "SPEC 1.1.0, ADD: error",
    reference: "its clean-up looks at another variable",
    async run(lab) {
      await lab.outside();
      const container = await lab.container();
      const ipam = { type: "static", addresses: [{ address: "not an address" }] };
      await lab.refuse(wireConfig("macvlan", lab, { ipam }), /address/, { container });
      await expectNone(container.namespace, "eth0");
    },
  },
  {
    title: "two networks on one master reach each other",
    source: "docker macvlan: networks share a parent",
    async run(lab) {
      await lab.outside();
      const one = await lab.attach(
        wireConfig("macvlan", lab, { ipam: fixed("198.51.100.20/24") }),
        await lab.container(),
      );
      const two = wireConfig("macvlan", lab, { name: "net-b", ipam: fixed("198.51.100.21/24") });
      await lab.attach(two, await lab.container());
      expect(await ping(one.container.namespace, "198.51.100.21"), "no answer from the other network");
    },
  },
  {
    title: "DEL works with an empty netns, without the master, and again",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "a link that is gone is an error",
    async run(lab) {
      await lab.outside();
      const attachment = await lab.attach(wireConfig("macvlan", lab), await lab.container());
      await lab.host.ip(`link del ${uplink}`);
      (await attachment.delWithResult({ netns: "" })).expectSilence();
      (await attachment.delWithResult()).expectSilence();
      await lab.rebase();
    },
  },
  {
    title: "CHECK is silent, and names a route, an address and a mode that are not as they were",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      const outside = await lab.outside();
      const ipam = onWire(lab, { routes: [{ dst: "0.0.0.0/0", gw: outside.ip4 }] });
      const attachment = await lab.attach(wireConfig("macvlan", lab, { ipam }), await lab.container());
      const { namespace } = attachment.container;
      (await attachment.check()).expectSilence();
      await namespace.ip("route del default");
      (await attachment.check()).expectError({ names: /0\.0\.0\.0/ });
      await namespace.ip(`route add default via ${outside.ip4}`);
      await namespace.ip("link set eth0 type macvlan mode private");
      (await attachment.check()).expectError({ names: /mode/ });
      await namespace.ip("link set eth0 type macvlan mode bridge");
      await namespace.ip("address flush dev eth0");
      (await attachment.check()).expectError({ names: /198\.51\.100\./ });
    },
  },
  {
    title: "GC takes what is not in the list, STATUS says 50 for a master that is down",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      await lab.outside();
      const config = wireConfig("macvlan", lab, { cniVersion: "1.1.0" });
      const keep = await lab.attach(config, await lab.container());
      const stale = await lab.attach(config, await lab.container());
      const valid = [{ containerID: keep.container.id, ifname: "eth0" }];
      (await lab.call("GC", { ...config, "cni.dev/valid-attachments": valid })).expectSilence();
      await expectNone(stale.container.namespace, "eth0");
      await inside(keep.container.namespace);
      (await lab.call("STATUS", config)).expectSilence();
      await lab.host.ip(`link set ${uplink} down`);
      (await lab.call("STATUS", config)).expectError({ names: /uplink0/, code: code.notAvailable });
      await lab.host.ip(`link set ${uplink} up`);
      await lab.rebase();
    },
  },
  {
    title: "a master with a VLAN in its name is made with the first container and goes with the last",
    source: "docker macvlan: parent=eth0.10",
    reference: extension,
    needs: ["8021q"],
    async run(lab) {
      const outside = await lab.outside();
      await enterVlan(outside, 10, "203.0.113.1/24");
      const config = (name: string, last: number) =>
        wireConfig("macvlan", lab, { name, master: `${uplink}.10`, ipam: fixed(`203.0.113.${last}/24`) });
      const one = await lab.attach(config("net-a", 2), await lab.container());
      const two = await lab.attach(config("net-b", 3), await lab.container());
      expect(await ping(one.container.namespace, "203.0.113.1"), "no answer from the VLAN");
      (await one.delWithResult()).expectSilence();
      expect((await readLink(lab.host, `${uplink}.10`)) !== undefined, "it went with the first container");
      (await two.delWithResult()).expectSilence();
      await expectNone(lab.host, `${uplink}.10`);
    },
  },
  {
    title: "a VLAN's interface that was there before stays",
    source: "docker macvlan: never one that pre-existed",
    needs: ["8021q"],
    async run(lab) {
      await lab.outside();
      await lab.host.ip(`link add link ${uplink} name ${uplink}.10 type vlan id 10`);
      await lab.host.ip(`link set ${uplink}.10 up`);
      const config = wireConfig("macvlan", lab, { master: `${uplink}.10`, ipam: fixed("203.0.113.2/24") });
      const attachment = await lab.attach(config, await lab.container());
      (await attachment.delWithResult()).expectSilence();
      expect((await readLink(lab.host, `${uplink}.10`)) !== undefined, "it was removed");
    },
  },
  {
    title: "an internal network connects its containers to nobody else, and leaves nothing",
    source: "docker macvlan: no parent",
    reference: extension,
    async run(lab) {
      const outside = await lab.outside();
      const before = (await readLinks(lab.host)).length;
      const config = (last: number) =>
        plainConfig("macvlan", { internal: true, ipam: fixed(`198.51.100.${last}/24`) });
      const one = await lab.attach(config(20), await lab.container());
      const two = await lab.attach(config(21), await lab.container());
      expect(await ping(one.container.namespace, "198.51.100.21"), "no answer from the other container");
      expect(!(await ping(one.container.namespace, outside.ip4, 1)), "the wire can be reached");
      expect(!(await ping(one.container.namespace, outside.host4, 1)), "the host can be reached");
      (await one.delWithResult()).expectSilence();
      (await two.delWithResult()).expectSilence();
      expectEqual((await readLinks(lab.host)).length, before, "number of links of the host");
    },
  },
  {
    title: "hostAccess lets host and container reach each other; without it they do not",
    source: "libnetwork#1915",
    reference: extension,
    async run(lab) {
      const outside = await lab.outside();
      const config = (hostAccess: boolean, last: number) =>
        wireConfig("macvlan", lab, { hostAccess, ipam: fixed(`198.51.100.${last}/24`) });
      await lab.attach(config(false, 20), await lab.container());
      expect(!(await ping(lab.host, "198.51.100.20", 1)), "the host reaches it without hostAccess");
      const one = await lab.attach(config(true, 21), await lab.container());
      expect(await ping(lab.host, "198.51.100.21"), "the host does not reach the container");
      expect(await ping(one.container.namespace, outside.host4), "the container does not reach the host");
      const neighbours = await outside.namespace.shell(
        `ip neigh flush all; ping -nqc1 -W2 ${outside.host4} >/dev/null; ip neigh show ${outside.host4}`,
      );
      const { mac } = await inside(lab.host, uplink);
      expect(neighbours.includes(mac), `the wire takes the host for somebody else: ${neighbours}`);
    },
  },
];
