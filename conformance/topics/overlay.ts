import type { Case } from "#conformance/case.ts";
import { eventually, expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import {
  expectNoReach,
  expectReach,
  OverlayHosts,
  overlayConfig,
  withoutService,
} from "#conformance/overlay-host.ts";
import { code } from "#conformance/reply.ts";
import { ping } from "#conformance/traffic.ts";
import { readLink, readLinks, readRoutes } from "#conformance/witness.ts";

const readme = "overlay-vxlan README";
const guide = "docs/overlay.md";
const subnet = ["--subnet", "10.90.0.0/16"];
const quiet = "--disable-dns";

const namesOf = async (lab: Lab) => (await readLinks(lab.host)).map(({ name }) => name).sort();

/** On one host, whose engine is embedded. */
export const overlayCases: readonly Case[] = [
  {
    title: "ADD gives an address of the network, a default route and the MTU that a tunnel leaves",
    source: `${readme}; ${guide}; RFC 7348, section 5`,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet, "--ipv6", ...subnet);
      const attachment = await hosts.attach(lab, config);
      expect(attachment.ip().startsWith("10.90."), `${attachment.ip()} is not of 10.90.0.0/16`);
      expectEqual(attachment.result.ips.length, 2, "number of addresses");
      const { namespace } = attachment.container;
      for (const [family, at] of [
        [4, 0],
        [6, 1],
      ] as const) {
        const routes = await readRoutes(namespace, family);
        const way = routes.find(({ dst }) => dst === "default");
        expectEqual(way?.gateway, attachment.address(at).gateway, `IPv${family} default route`);
        expect(await ping(namespace, way?.gateway ?? ""), `the IPv${family} gateway does not answer`);
      }
      // 20 IPv4 or 40 IPv6, 8 UDP, 8 VXLAN, 14 Ethernet: the underlay has IPv4.
      expectEqual((await readLink(namespace, "eth0"))?.mtu, 1450, "MTU of eth0");
    },
  },
  {
    title: "containers of one network reach each other and the outside, those of two networks don't",
    source: `${guide}, Begin`,
    needs: ["vxlan", "nftables masquerade"],
    async run(lab) {
      const outside = await lab.outside();
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet, "--ipv6");
      const other = await hosts.network("net-b", quiet);
      const [a, b] = [await hosts.attach(lab, config), await hosts.attach(lab, config)];
      const far = await hosts.attach(lab, other);
      for (const family of [4, 6] as const) await expectReach(a, b.ip(family));
      // It knows no way to the network: only what is masqueraded is answered.
      await expectReach(a, outside.ip4);
      await expectReach(far, outside.ip4);
      await expectNoReach(far, a.ip());
      await expectNoReach(a, far.ip());
    },
  },
  {
    title: "an internal network has no way to the outside",
    source: `${guide}, --internal`,
    needs: ["vxlan"],
    async run(lab) {
      const outside = await lab.outside();
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet, "--internal");
      const [a, b] = [await hosts.attach(lab, config), await hosts.attach(lab, config)];
      await expectReach(a, b.ip());
      await expectNoReach(a, outside.ip4);
    },
  },
  {
    title: "ADDs at the same time get different addresses, also when one block is not enough",
    source: `${readme}, What an ADD needs`,
    needs: ["vxlan"],
    async run(lab) {
      // Of eight addresses one is the tunnel's, one the gateway's, one everybody's.
      const hosts = await OverlayHosts.alone(lab, "--pool", "10.91.0.0/16,24,29");
      const config = await hosts.network("net-a", quiet);
      const containers = await Promise.all(Array.from({ length: 8 }, () => lab.container()));
      const made = await Promise.all(containers.map((container) => lab.attach(config, container)));
      expectEqual(new Set(made.map((each) => each.ip())).size, made.length, "number of addresses");
      const [first, last] = [made[0], made.at(-1)];
      if (first && last) await expectReach(first, last.ip());
      for (const attachment of made) (await attachment.del()).expectSilence();
      // Further blocks came with routes and addresses of the tunnel, and go when nobody asks for them.
      await lab.rebase();
    },
  },
  {
    title: "ADD, CHECK and DEL need no service as long as the host has a free address",
    source: `${readme}, What an ADD needs`,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet);
      const a = await hosts.attach(lab, config);
      await lab.host.endProcesses();
      const b = await hosts.attach(lab, config, withoutService);
      await expectReach(a, b.ip());
      (await b.call("CHECK", { ...config, prevResult: b.result.json }, withoutService)).expectSilence();
      for (const attachment of [a, b]) (await attachment.del(withoutService)).expectSilence();
    },
  },
  {
    title: "CHECK finds a tunnel that is gone",
    source: `${readme}, STATUS and CHECK`,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet);
      const a = await hosts.attach(lab, config);
      (await a.check()).expectSilence();
      // The agent would have it back before anybody looks.
      await lab.host.endProcesses();
      const tunnels = (await readLinks(lab.host)).filter(({ kind }) => kind === "vxlan");
      for (const { name } of tunnels) await lab.host.ip(`link delete ${name}`);
      const reply = await a.call("CHECK", { ...config, prevResult: a.result.json }, withoutService);
      reply.expectError({ names: tunnels.map(({ name }) => new RegExp(name)) });
      (await a.del(withoutService)).expectSilence();
      await lab.rebase();
    },
  },
  {
    title: "DEL succeeds any number of times, with and without netns, whether or not the network is known",
    source: "SPEC 1.1.0, DEL",
    needs: ["vxlan"],
    async run(lab) {
      const container = await lab.container();
      const unknown = overlayConfig("net-x");
      for (const netns of [container.namespace.path, "", "/run/netns/never-was"])
        (await lab.call("DEL", unknown, { container, netns })).expectSilence();
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet);
      const a = await hosts.attach(lab, config);
      (await a.del({ netns: "" })).expectSilence();
      for (const netns of [a.container.namespace.path, "", "/run/netns/never-was"])
        (await a.del({ netns })).expectSilence();
    },
  },
  {
    title: "GC takes away what is not listed, and nothing else",
    source: "SPEC 1.1.0, GC",
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet);
      const [kept, lost] = [await hosts.attach(lab, config), await hosts.attach(lab, config)];
      const valid = [{ containerID: kept.container.id, ifname: "eth0" }];
      (await lab.call("GC", { ...config, "cni.dev/valid-attachments": valid })).expectSilence();
      expect(!(await readLinks(lost.container.namespace)).some(({ name }) => name === "eth0"), "eth0 stays");
      (await kept.check()).expectSilence();
      await expectReach(kept, kept.address().gateway ?? "");
    },
  },
  {
    title: "the address and MAC that are asked for are given, if they are this host's to give",
    source: `${readme}, Fields`,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.alone(lab);
      const config = await hosts.network("net-a", quiet, ...subnet);
      const before = await hosts.attach(lab, config);
      const asked = before.ip().replace(/\d+$/, (last) => String(Number(last) + 20));
      const mac = "02:00:00:00:be:ef";
      const args = { runtimeConfig: { ips: [asked], mac } };
      const a = await hosts.attach(lab, { ...config, ...args });
      expectEqual(a.ip(), asked, "address");
      expectEqual(a.inside().mac, mac, "MAC address");
      const [head, third] = before.ip().split(".").slice(1);
      for (const ip of [`10.${head}.${(Number(third) + 128) % 256}.9`, "192.0.2.1"])
        await lab.refuse({ ...config, runtimeConfig: { ips: [ip] } }, new RegExp(ip.replaceAll(".", "\\.")));
      await lab.refuse({ ...config, runtimeConfig: { mac: "no-mac" } }, /no-mac/, {
        code: code.invalidConfig,
      });
    },
  },
  {
    title: "a host in no cluster and a network that the cluster has not are refused by name; STATUS is 50",
    source: `${readme}, STATUS and CHECK`,
    needs: ["vxlan"],
    async run(lab) {
      const config = overlayConfig("net-x");
      const notAvailable = { code: code.notAvailable, names: /net-x/ };
      await lab.refuse(config, [/net-x/, /cluster/], { code: code.invalidConfig });
      (await lab.call("STATUS", config)).expectError(notAvailable);
      const hosts = await OverlayHosts.alone(lab);
      await lab.rebase();
      await lab.refuse(config, [/net-x/, /no such network/], { code: 11 });
      (await lab.call("STATUS", config)).expectError(notAvailable);
      (await lab.call("STATUS", await hosts.network("net-a", quiet))).expectSilence();
    },
  },
  {
    title: "a network that is removed leaves no link, address, route or forwarding entry",
    source: guide,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.alone(lab);
      const before = await namesOf(lab);
      const config = await hosts.network("net-a", quiet, "--ipv6");
      const a = await hosts.attach(lab, config);
      expect((await namesOf(lab)).length > before.length, "the network has made no link");
      (await a.del()).expectSilence();
      await hosts.netctl("network", "rm", "net-a");
      const isGone = async () => (await namesOf(lab)).join() === before.join();
      expect(await eventually(isGone, 30_000), `links stay: ${(await namesOf(lab)).join(", ")}`);
      const left = await lab.host.shell("ip -4 route show proto 201; ip -6 route show proto 201");
      expectEqual(left, "", "routes");
      await lab.rebase();
      await lab.refuse(config, /net-a/, { code: 11 });
    },
  },
];
