import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { dualStack, gateway4, gateway6, hostLocal, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { code } from "#conformance/reply.ts";
import { askServer, ping } from "#conformance/traffic.ts";
import { readAddresses, readLink, readLinks, readRoutes, readRuleset } from "#conformance/witness.ts";

const readme = "ptp README";

function ptpConfig(lab: Lab, extra: JsonObject = {}): JsonObject {
  const routes = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
  return plainConfig("ptp", { ipam: dualStack(lab, { routes }), ...extra });
}

/** ipMasq with one backend, insisted on where it is iptables. */
function masqueradeCase(backend: "iptables" | "nftables"): Case {
  return {
    title: `ipMasq with ${backend}: the outside sees the host, a neighbour the container, and DEL leaves no rule`,
    source: `${readme}, ipMasq`,
    needs: backend === "iptables" ? ["iptables", "ip6tables"] : ["nftables masquerade"],
    ...(backend === "nftables" ? { reference: "v1.1.1 is older than the field" } : {}),
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace);
      const config = ptpConfig(lab, { ipMasq: true, ipMasqBackend: backend, insistOnBackend: true });
      const one = await lab.attach(config, await lab.container());
      const two = await lab.attach(config, await lab.container());
      await lab.serve(two.container.namespace);
      const { namespace } = one.container;
      expectEqual(await askServer(namespace, "tcp", outside.ip4), outside.host4, "source seen outside");
      expectEqual(await askServer(namespace, "tcp", two.ip()), one.ip(), "source seen by a neighbour");
      const hasTable = /table ip6? nat /.test(await readRuleset(lab.host));
      expectEqual(hasTable, backend === "iptables", "iptables' own table in the ruleset");
      await one.container.namespace.remove();
      (await one.delWithResult({ netns: "" })).expectSilence();
      expect(!(await readRuleset(lab.host)).includes(one.container.id), "a rule names the container still");
    },
  };
}

export const ptpCases: readonly Case[] = [
  {
    title: "ADD links the container to the host, both families, and everything goes by the gateway",
    source: readme,
    needs: ["IPv6"],
    async run(lab) {
      const attachment = await lab.attach(ptpConfig(lab), await lab.container());
      const { namespace } = attachment.container;
      for (const family of [4, 6] as const) {
        const gateway = family === 4 ? gateway4 : gateway6;
        expect(await ping(namespace, gateway), `no answer from the gateway ${gateway}`);
        expect(await ping(lab.host, attachment.ip(family)), `the host does not reach IPv${family}`);
      }
      const routes = await readRoutes(namespace);
      const to = (dst: string) => routes.find((route) => route.dst === dst);
      expectEqual(to(gateway4)?.scope, "link", "scope of the route to the gateway");
      expectEqual(to("10.77.0.0/24")?.gateway, gateway4, "gateway to the subnet");
      expectEqual(to("default")?.gateway, gateway4, "gateway of the default route");
    },
  },
  {
    title: "the result names the host's end, then the container's, and the addresses belong to the latter",
    source: `${readme}, result`,
    async run(lab) {
      const attachment = await lab.attach(ptpConfig(lab), await lab.container());
      const { interfaces, ips } = attachment.result;
      expectEqual(
        interfaces.map(({ sandbox }) => sandbox),
        ["", attachment.container.namespace.path],
        "sandboxes",
      );
      expectEqual(
        ips.map((ip) => ip.interface),
        [1, 1],
        "interface of the addresses",
      );
      const host = attachment.result.interfaces[0]?.name ?? "";
      expect(/^veth[0-9a-f]{8}$/.test(host), `the host's end is called ${host}`);
      expectEqual((await readLink(lab.host, host))?.mac, interfaces[0]?.mac, "its MAC address");
    },
  },
  {
    title: "the host's end has the gateway's address alone, and a route to the container's",
    source: readme,
    async run(lab) {
      const attachment = await lab.attach(ptpConfig(lab), await lab.container());
      const host = attachment.result.interfaces[0]?.name ?? "";
      const addresses = (await readAddresses(lab.host, host)).map(({ cidr }) => cidr);
      expectEqual(addresses.sort(), [`${gateway4}/32`, `${gateway6}/128`], "addresses of the host's end");
      const routes = await readRoutes(lab.host);
      expect(
        routes.some(({ dst, dev }) => dst === attachment.ip() && dev === host),
        "no route to the container",
      );
    },
  },
  {
    title: "containers of one subnet reach each other by the host",
    source: readme,
    async run(lab) {
      const one = await lab.attach(ptpConfig(lab), await lab.container());
      const two = await lab.attach(ptpConfig(lab), await lab.container());
      expect(await ping(one.container.namespace, two.ip()), "no answer by IPv4");
      expect(await ping(one.container.namespace, two.ip(6)), "no answer by IPv6");
    },
  },
  masqueradeCase("iptables"),
  masqueradeCase("nftables"),
  {
    title: "mtu is that of both ends",
    source: `${readme}, mtu`,
    async run(lab) {
      const attachment = await lab.attach(ptpConfig(lab, { mtu: 1400 }), await lab.container());
      const inside = await readLink(attachment.container.namespace, "eth0");
      const outside = await readLink(lab.host, attachment.result.interfaces[0]?.name ?? "");
      expectEqual([inside?.mtu, outside?.mtu], [1400, 1400], "MTU inside and outside");
    },
  },
  {
    title: "dns of the configuration replaces that of the IPAM plugin",
    source: `${readme}, dns`,
    async run(lab) {
      const dns = { nameservers: ["10.9.0.1"], domain: "example.test" };
      const { result } = await lab.attach(ptpConfig(lab, { dns }), await lab.container());
      expectEqual(result.json["dns"], dns, "dns");
    },
  },
  {
    title: "a failed ADD frees the address and leaves no link",
    source: "SPEC 1.1.0, ADD: error",
    reference: "keeps the address where the container has the interface's name",
    async run(lab) {
      const ipam = hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" });
      const container = await lab.container();
      await container.namespace.ip("link add eth0 type bridge");
      await lab.refuse(ptpConfig(lab, { ipam }), [/eth0/], { container });
      const next = await lab.attach(ptpConfig(lab, { ipam }), await lab.container());
      expectEqual(next.ip(), "10.77.0.7", "address of the next container");
    },
  },
  {
    title: "DEL may be repeated, and needs neither namespace nor result",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const attachment = await lab.attach(ptpConfig(lab), await lab.container());
      (await attachment.delWithResult()).expectSilence();
      (await attachment.del({ netns: "" })).expectSilence();
      await attachment.container.namespace.remove();
      (await attachment.del()).expectSilence();
    },
  },
  {
    title: "DEL with an empty netns removes the link where the namespace still lives",
    source: "SPEC 1.1.0, DEL: to the fullest extent possible",
    reference: "no state of its own: without netns only the IPAM is asked to DEL",
    async run(lab) {
      const attachment = await lab.attach(ptpConfig(lab), await lab.container());
      (await attachment.del({ netns: "" })).expectSilence();
      const names = (await readLinks(lab.host)).map(({ name }) => name);
      expect(!names.some((name) => name.startsWith("veth")), "the host has a veth still");
    },
  },
  {
    title: "CHECK is silent, and fails without a route, an address or the host's end",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      const attachment = await lab.attach(ptpConfig(lab), await lab.container());
      (await attachment.check()).expectSilence();
      const { namespace } = attachment.container;
      await namespace.ip("route del default");
      (await attachment.check()).expectError({ names: /0\.0\.0\.0\/0/ });
      await namespace.ip("address flush dev eth0");
      (await attachment.check()).expectError({ names: new RegExp(attachment.ip()) });
      await lab.host.ip(`link del ${attachment.result.interfaces[0]?.name ?? ""}`);
      (await attachment.check()).expectError({ names: /eth0/ });
    },
  },
  {
    title: "without IPAM, or with an unknown backend, ADD is refused",
    source: readme,
    async run(lab) {
      await lab.refuse(plainConfig("ptp"), [/ipam/], { code: code.invalidConfig });
      await lab.refuse(ptpConfig(lab, { ipMasq: true, ipMasqBackend: "x" }), [/"x"/]);
    },
  },
  {
    title: "CNI_ARGS that are another plugin's are passed on to the IPAM plugin, and refuse nothing",
    source: "plugins ptp: reads no CNI_ARGS; cni types, CommonArgs",
    async run(lab) {
      const ipam = await lab.ipam();
      const address = { address: "10.77.0.9/24", gateway: gateway4 };
      await ipam.answer("ADD", { cniVersion: "1.0.0", ips: [address] });
      const config = ptpConfig(lab, { ipam: { type: ipam.type } });
      await lab.attach(config, await lab.container(), { args: "COLOUR=blue" });
      const calls = await ipam.calls();
      expectEqual(calls.at(-1)?.environment["CNI_ARGS"], "COLOUR=blue", "CNI_ARGS of the IPAM plugin");
    },
  },
  {
    title: "GC removes stale attachments and keeps valid ones; STATUS is silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "GC does nothing",
    async run(lab) {
      const config = ptpConfig(lab, { cniVersion: "1.1.0", ipMasq: true });
      const kept = await lab.attach(config, await lab.container());
      const stale = await lab.attach(config, await lab.container());
      stale.forget();
      const valid = [{ containerID: kept.container.id, ifname: "eth0" }];
      (await lab.call("GC", { ...config, "cni.dev/valid-attachments": valid })).expectSilence();
      expect((await readLink(stale.container.namespace, "eth0")) === undefined, "the stale one stays");
      expect(await ping(kept.container.namespace, gateway4), "the valid one does not work");
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
