import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, dualStack, gateway4, gateway6, hostLocal } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { askServer, ping } from "#conformance/traffic.ts";
import { type Route, readAddresses, readRoutes, readRuleset } from "#conformance/witness.ts";

async function bridgeAddresses(lab: Lab): Promise<readonly string[]> {
  return (await readAddresses(lab.host, "br0")).map((address) => address.cidr);
}

function defaults(routes: readonly Route[]): readonly string[] {
  return routes.filter((route) => route.dst === "default").map((route) => route.gateway ?? route.dev ?? "?");
}

/** A network with a way out: dual stack, default routes. */
function routed(lab: Lab, extra: JsonObject = {}): JsonObject {
  return bridgeConfig(lab, { isDefaultGateway: true, ipam: dualStack(lab), ...extra });
}

const masqueradeSource = "bridge README, ipMasq";

/** ipMasq with one backend, or with none named: the outside sees the host and nobody else does. */
function masqueradeCases(backend: string | undefined): readonly Case[] {
  const extra: JsonObject =
    backend === undefined ? { ipMasq: true } : { ipMasq: true, ipMasqBackend: backend };
  const name = backend === undefined ? "ipMasq" : `ipMasq with ipMasqBackend ${backend}`;
  const needs =
    backend === "iptables" ? (["iptables", "ip6tables"] as const) : (["nftables masquerade"] as const);
  return [
    {
      title: `${name}: the outside sees the host's address, by TCP and UDP`,
      source: masqueradeSource,
      needs,
      async run(lab) {
        const outside = await lab.outside();
        await lab.serve(outside.namespace);
        const { container } = await lab.attach(routed(lab, extra), await lab.container());
        for (const protocol of ["tcp", "udp"] as const)
          expectEqual(
            await askServer(container.namespace, protocol, outside.ip4),
            outside.host4,
            `source seen outside by ${protocol}`,
          );
      },
    },
    {
      title: `${name}: the outside sees the host's address by IPv6 too`,
      source: masqueradeSource,
      needs: [...needs, "IPv6"],
      async run(lab) {
        const outside = await lab.outside();
        await lab.serve(outside.namespace);
        const { container } = await lab.attach(routed(lab, extra), await lab.container());
        // How soon the gateway answers is another case's matter.
        await ping(container.namespace, gateway6, 5);
        expectEqual(
          await askServer(container.namespace, "tcp", outside.ip6),
          outside.host6,
          "source seen outside",
        );
      },
    },
    {
      title: `${name}: containers of the network see each other's own addresses`,
      source: masqueradeSource,
      needs,
      async run(lab) {
        const one = await lab.attach(routed(lab, extra), await lab.container());
        const two = await lab.attach(routed(lab, extra), await lab.container());
        await lab.serve(two.container.namespace);
        expectEqual(
          await askServer(one.container.namespace, "tcp", two.ip()),
          one.ip(),
          "source seen by a container",
        );
        expectEqual(
          await askServer(one.container.namespace, "tcp", two.ip(6)),
          one.ip(6),
          "source seen by a container",
        );
      },
    },
    {
      title: `${name}: DEL without netns and prevResult removes the rules`,
      source: "SPEC 1.1.0, DEL; plugins#810",
      needs,
      reference: "without a netns only the IPAM is asked to DEL",
      async run(lab) {
        const attachment = await lab.attach(routed(lab, extra), await lab.container());
        await attachment.container.namespace.remove();
        (await attachment.del({ netns: "" })).expectSilence();
      },
    },
    {
      title: `${name}: the DEL of one container leaves the rules of another`,
      source: masqueradeSource,
      needs,
      async run(lab) {
        const outside = await lab.outside();
        await lab.serve(outside.namespace);
        const one = await lab.attach(routed(lab, extra), await lab.container());
        const two = await lab.attach(routed(lab, extra), await lab.container());
        (await one.delWithResult()).expectSilence();
        expectEqual(
          await askServer(two.container.namespace, "tcp", outside.ip4),
          outside.host4,
          "source seen outside",
        );
      },
    },
    {
      title: `${name}: a late DEL does not take the rules of the container that has the address now`,
      source: "SPEC 1.1.0, DEL; nftables masquerade of plugins v1.6",
      needs,
      async run(lab) {
        const outside = await lab.outside();
        await lab.serve(outside.namespace);
        const config = routed(lab, {
          ...extra,
          ipam: hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" }),
        });
        const old = await lab.attach(config, await lab.container());
        (await old.delWithResult()).expectSilence();
        await old.container.namespace.remove();
        const fresh = await lab.attach(config, await lab.container());
        expectEqual(fresh.ip(), old.ip(), "address of the second container");
        (await old.delWithResult({ netns: "" })).expectSilence();
        expectEqual(
          await askServer(fresh.container.namespace, "tcp", outside.ip4),
          outside.host4,
          "source seen outside",
        );
      },
    },
    {
      title: `${name}: two interfaces of one container on one network are told apart`,
      source: "SPEC 1.1.0: an attachment is (container, interface)",
      needs,
      reference: "the iptables chain's name leaves out the interface",
      async run(lab) {
        const outside = await lab.outside();
        await lab.serve(outside.namespace);
        const container = await lab.container();
        const config = bridgeConfig(lab, {
          isGateway: true,
          ...extra,
          ipam: hostLocal(lab, { routes: [{ dst: "0.0.0.0/0" }] }),
        });
        const first = await lab.attach(config, container);
        const second = await lab.attach(bridgeConfig(lab, { ...config, ipam: hostLocal(lab) }), container, {
          ifName: "eth1",
        });
        (await second.delWithResult()).expectSilence();
        expectEqual(
          await askServer(container.namespace, "tcp", outside.ip4),
          outside.host4,
          `source seen outside for ${first.ip()}`,
        );
      },
    },
  ];
}

export const networkCases: readonly Case[] = [
  {
    title: "containers reach each other by IPv4 and IPv6",
    source: "bridge README",
    needs: ["IPv6"],
    async run(lab) {
      const config = bridgeConfig(lab, { ipam: dualStack(lab) });
      const one = await lab.attach(config, await lab.container());
      const two = await lab.attach(config, await lab.container());
      await lab.serve(two.container.namespace);
      for (const family of [4, 6] as const) {
        expect(
          await ping(one.container.namespace, two.ip(family)),
          `IPv${family}: no answer from ${two.ip(family)}`,
        );
        expectEqual(
          await askServer(one.container.namespace, "tcp", two.ip(family)),
          one.ip(family),
          `IPv${family} source by tcp`,
        );
        expectEqual(
          await askServer(one.container.namespace, "udp", two.ip(family)),
          one.ip(family),
          `IPv${family} source by udp`,
        );
      }
    },
  },
  {
    title: "containers reach the gateway by IPv4 and IPv6, at once after ADD",
    source: "bridge README, isGateway; plugins#680",
    reference: "the bridge's own IPv6 address is tentative for a second or two",
    needs: ["IPv6"],
    async run(lab) {
      const { container } = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipam: dualStack(lab) }),
        await lab.container(),
      );
      const tentative = (await readAddresses(container.namespace, "eth0")).filter(
        (address) => address.tentative,
      );
      expectEqual(tentative, [], "tentative addresses of eth0");
      for (const gateway of [gateway6, gateway4])
        expect(await ping(container.namespace, gateway), `no answer from ${gateway}`);
    },
  },
  {
    title: "without ipMasq the outside sees the container's own address",
    source: masqueradeSource,
    async run(lab) {
      const outside = await lab.outside();
      await outside.namespace.ip(`route add 10.77.0.0/24 via ${outside.host4}`);
      await lab.serve(outside.namespace);
      const attachment = await lab.attach(routed(lab), await lab.container());
      expectEqual(
        await askServer(attachment.container.namespace, "tcp", outside.ip4),
        attachment.ip(),
        "source seen outside",
      );
    },
  },
  ...masqueradeCases(undefined),
  ...masqueradeCases("iptables"),
  ...masqueradeCases("nftables"),
  {
    title: "ipMasqBackend nftables makes no rule in iptables' tables",
    source: "bridge README, ipMasqBackend",
    needs: ["nftables masquerade"],
    reference: "v1.1.1 is older than the field",
    async run(lab) {
      const attachment = await lab.attach(
        routed(lab, { ipMasq: true, ipMasqBackend: "nftables" }),
        await lab.container(),
      );
      const ruleset = await readRuleset(lab.host);
      expect(ruleset.includes("masquerade"), "no masquerade in the ruleset");
      expect(ruleset.includes(attachment.ip()), `${attachment.ip()} is not in the ruleset`);
      expect(!/table ip6? nat /.test(ruleset), "the ruleset has a table nat, as iptables-nft makes it");
    },
  },
  {
    title: "ipMasqBackend iptables, insisted on, shows up in iptables -S",
    source: "bridge README, ipMasqBackend; netctl, insistOnBackend",
    needs: ["iptables"],
    async run(lab) {
      const attachment = await lab.attach(
        routed(lab, { ipMasq: true, ipMasqBackend: "iptables", insistOnBackend: true }),
        await lab.container(),
      );
      const rules = await lab.host.shell("iptables -t nat -S");
      expect(
        rules.includes("MASQUERADE") && rules.includes(attachment.ip()),
        "no masquerade for the container in iptables -t nat -S",
      );
    },
  },
  {
    title: "ipMasqBackend iptables, not insisted on, masquerades by whatever means",
    source: "bridge README, ipMasqBackend",
    needs: ["iptables"],
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace);
      const config = routed(lab, { ipMasq: true, ipMasqBackend: "iptables" });
      const { container } = await lab.attach(config, await lab.container());
      expectEqual(
        await askServer(container.namespace, "tcp", outside.ip4),
        outside.host4,
        "source seen outside",
      );
    },
  },
  {
    title: "multicast is not masqueraded",
    source: masqueradeSource,
    needs: ["nftables masquerade"],
    async run(lab) {
      await lab.attach(routed(lab, { ipMasq: true }), await lab.container());
      const ruleset = await readRuleset(lab.host);
      expect(
        ruleset.includes("224.0.0.0/4") && ruleset.includes("ff00::/8"),
        "the ruleset exempts no multicast",
      );
    },
  },
  {
    title: "isGateway puts the gateway's address on the bridge, with the subnet's prefix",
    source: "bridge README, isGateway",
    async run(lab) {
      await lab.attach(bridgeConfig(lab, { isGateway: true, ipam: dualStack(lab) }), await lab.container());
      expectEqual(await bridgeAddresses(lab), ["10.77.0.1/24", "fd00:77::1/64"], "addresses of br0");
    },
  },
  {
    title: "isGateway takes the gateway that the IPAM names",
    source: "bridge README, isGateway",
    async run(lab) {
      await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipam: hostLocal(lab, { gateway: "10.77.0.254" }) }),
        await lab.container(),
      );
      expectEqual(await bridgeAddresses(lab), ["10.77.0.254/24"], "addresses of br0");
    },
  },
  {
    title: "isGateway takes the first address of the network where the IPAM names no gateway",
    source: "bridge plugin",
    async run(lab) {
      const ipam = await lab.ipam("scripted-ipam");
      await ipam.answer("ADD", { cniVersion: "1.0.0", ips: [{ address: "10.77.4.42/22" }] });
      await ipam.answer("DEL", "");
      await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipam: { type: "scripted-ipam" } }),
        await lab.container(),
      );
      expectEqual(await bridgeAddresses(lab), ["10.77.4.1/22"], "addresses of br0");
    },
  },
  {
    title: "isGateway turns forwarding on for the families that the network has",
    source: "bridge plugin",
    needs: ["IPv6"],
    async run(lab) {
      await lab.host.setSysctl("net/ipv4/ip_forward", "0");
      await lab.host.setSysctl("net/ipv6/conf/all/forwarding", "0");
      await lab.attach(bridgeConfig(lab, { isGateway: true }), await lab.container());
      expectEqual(await lab.host.sysctl("net/ipv4/ip_forward"), "1", "net.ipv4.ip_forward");
      expectEqual(
        await lab.host.sysctl("net/ipv6/conf/all/forwarding"),
        "0",
        "net.ipv6.conf.all.forwarding of an IPv4 network",
      );
      const second = bridgeConfig(lab, {
        name: "net-b",
        bridge: "br1",
        isGateway: true,
        ipam: hostLocal(lab, { subnet: "fd00:78::/64" }),
      });
      await lab.attach(second, await lab.container());
      expectEqual(await lab.host.sysctl("net/ipv6/conf/all/forwarding"), "1", "net.ipv6.conf.all.forwarding");
    },
  },
  {
    title: "without isGateway the bridge has no address and forwarding stays as it is",
    source: "bridge README, isGateway",
    async run(lab) {
      await lab.host.setSysctl("net/ipv4/ip_forward", "0");
      await lab.attach(bridgeConfig(lab), await lab.container());
      expectEqual(await bridgeAddresses(lab), [], "addresses of br0");
      expectEqual(await lab.host.sysctl("net/ipv4/ip_forward"), "0", "net.ipv4.ip_forward");
    },
  },
  {
    title: "isDefaultGateway gives the container a default route of each family",
    source: "bridge README, isDefaultGateway",
    needs: ["IPv6"],
    async run(lab) {
      const { container, result } = await lab.attach(routed(lab), await lab.container());
      expectEqual(defaults(await readRoutes(container.namespace)), [gateway4], "IPv4 default routes");
      expectEqual(defaults(await readRoutes(container.namespace, 6)), [gateway6], "IPv6 default routes");
      expectEqual(
        result.routes.map((route) => route.dst).sort(),
        ["0.0.0.0/0", "::/0"],
        "routes of the result",
      );
      expectEqual(await bridgeAddresses(lab), ["10.77.0.1/24", "fd00:77::1/64"], "addresses of br0");
    },
  },
  {
    title: "isDefaultGateway adds no second default route where the IPAM gave one with gateway",
    source: "bridge plugin",
    async run(lab) {
      const ipam = hostLocal(lab, { routes: [{ dst: "0.0.0.0/0", gw: "10.77.0.9" }] });
      const { container } = await lab.attach(
        bridgeConfig(lab, { isDefaultGateway: true, ipam }),
        await lab.container(),
      );
      expectEqual(defaults(await readRoutes(container.namespace)), ["10.77.0.9"], "IPv4 default routes");
    },
  },
  {
    title: "a route of the IPAM without gateway goes by the address's gateway",
    source: "bridge README, ipam routes",
    async run(lab) {
      const ipam = hostLocal(lab, {
        routes: [{ dst: "192.0.2.0/24" }, { dst: "198.18.0.0/15", gw: "10.77.0.9" }],
      });
      const { container } = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipam }),
        await lab.container(),
      );
      const routes = await readRoutes(container.namespace);
      const via = (dst: string): string | undefined => routes.find((route) => route.dst === dst)?.gateway;
      expectEqual(
        [via("192.0.2.0/24"), via("198.18.0.0/15")],
        [gateway4, "10.77.0.9"],
        "gateways of the two routes",
      );
    },
  },
  {
    title: "several gateways for one destination are all kept",
    source: "SPEC 1.1.0, ADD: routes; plugins v1.1: append",
    async run(lab) {
      const ipam = hostLocal(lab, {
        routes: ["10.77.0.8", "10.77.0.9"].map((gw) => ({ dst: "192.0.2.0/24", gw })),
      });
      const { container } = await lab.attach(bridgeConfig(lab, { ipam }), await lab.container());
      const shown = JSON.stringify((await readRoutes(container.namespace)).map((route) => route.json));
      for (const gateway of ["10.77.0.8", "10.77.0.9"])
        expect(shown.includes(gateway), `no route via ${gateway}: ${shown}`);
    },
  },
  {
    title: "priority, table and scope of a route are applied",
    source: "SPEC 1.1.0, ADD: routes[].priority, table, scope",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const routes = [
        { dst: "192.0.2.0/24", gw: "10.77.0.9", priority: 77 },
        { dst: "198.18.0.0/15", gw: "10.77.0.9", table: 100 },
        { dst: "203.0.113.0/24", gw: "10.77.0.9", scope: 200 },
      ];
      const config = bridgeConfig(lab, { cniVersion: "1.1.0", ipam: hostLocal(lab, { routes }) });
      const { container } = await lab.attach(config, await lab.container());
      const main = await readRoutes(container.namespace);
      const other = await readRoutes(container.namespace, 4, "100");
      expectEqual(
        main.find((route) => route.dst === "192.0.2.0/24")?.metric,
        77,
        "metric of the first route",
      );
      expect(
        other.some((route) => route.dst === "198.18.0.0/15"),
        "the second route is not in table 100",
      );
      expectEqual(
        main.find((route) => route.dst === "203.0.113.0/24")?.scope,
        "site",
        "scope of the third route",
      );
    },
  },
  {
    title: "mtu and advmss of a route are applied",
    source: "SPEC 1.1.0, ADD: routes[].mtu, advmss",
    reference: "ignored",
    async run(lab) {
      const routes = [{ dst: "192.0.2.0/24", gw: "10.77.0.9", mtu: 1300, advmss: 1200 }];
      const config = bridgeConfig(lab, { cniVersion: "1.1.0", ipam: hostLocal(lab, { routes }) });
      const { container } = await lab.attach(config, await lab.container());
      const shown = JSON.stringify((await readRoutes(container.namespace)).map((route) => route.json));
      expect(/"mtu":1300/.test(shown) && /"advmss":1200/.test(shown), `the container's routes are ${shown}`);
    },
  },
  {
    title: "an address on the bridge that differs is refused without forceAddress, and stays",
    source: "bridge README, forceAddress",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      await lab.host.ipBatch(["link add br0 type bridge", "address add 10.99.0.1/16 dev br0"]);
      const reply = await lab.call("ADD", bridgeConfig(lab, { isGateway: true }), {
        container: await lab.container(),
      });
      reply.expectError({ names: [/br0/, /10\.(77|99)\.0\.1/] });
      expectEqual(await bridgeAddresses(lab), ["10.99.0.1/16"], "addresses of br0");
    },
  },
  {
    title: "forceAddress replaces an address on the bridge that differs",
    source: "bridge README, forceAddress",
    async run(lab) {
      await lab.host.ipBatch(["link add br0 type bridge", "address add 10.99.0.1/16 dev br0"]);
      await lab.attach(bridgeConfig(lab, { isGateway: true, forceAddress: true }), await lab.container());
      expectEqual(await bridgeAddresses(lab), ["10.77.0.1/24"], "addresses of br0");
    },
  },
  {
    title: "an IPv6 address on the bridge that overlaps is refused, or replaced with forceAddress",
    source: "bridge README, forceAddress",
    reference: "the veth pair stays after a failed ADD",
    needs: ["IPv6"],
    async run(lab) {
      await lab.host.ipBatch(["link add br0 type bridge", "address add fd00:77::99/64 dev br0"]);
      const ipam = hostLocal(lab, { subnet: "fd00:77::/64" });
      const reply = await lab.call("ADD", bridgeConfig(lab, { isGateway: true, ipam }), {
        container: await lab.container(),
      });
      reply.expectError({ names: /br0/ });
      const config = bridgeConfig(lab, { isGateway: true, forceAddress: true, ipam });
      await lab.attach(config, await lab.container());
      expectEqual(await bridgeAddresses(lab), ["fd00:77::1/64"], "addresses of br0");
    },
  },
  {
    title: "an IPv6 address on the bridge that does not overlap stays beside the new one",
    source: "bridge README, forceAddress",
    needs: ["IPv6"],
    async run(lab) {
      await lab.host.ipBatch(["link add br0 type bridge", "address add fd00:99::1/64 dev br0"]);
      const ipam = hostLocal(lab, { subnet: "fd00:77::/64" });
      await lab.attach(bridgeConfig(lab, { isGateway: true, ipam }), await lab.container());
      expectEqual(
        [...(await bridgeAddresses(lab))].sort(),
        ["fd00:77::1/64", "fd00:99::1/64"],
        "addresses of br0",
      );
    },
  },
  {
    title: "addresses asked for by runtimeConfig.ips, args.cni.ips and CNI_ARGS reach the container",
    source: "CONVENTIONS, ips; podman sends CNI_ARGS",
    async run(lab) {
      const container = await lab.container();
      await lab.attach(bridgeConfig(lab), container, {
        args: "IP=10.77.0.41;MAC=02:00:00:00:00:41;IgnoreUnknown=1;K8S_POD_NAME=web",
      });
      expectEqual(
        (await readAddresses(container.namespace, "eth0")).map((address) => address.cidr),
        ["10.77.0.41/24"],
        "by CNI_ARGS",
      );
      const second = await lab.container();
      await lab.attach(bridgeConfig(lab, { args: { cni: { ips: ["10.77.0.42"] } } }), second);
      expectEqual(
        (await readAddresses(second.namespace, "eth0")).map((address) => address.cidr),
        ["10.77.0.42/24"],
        "by args.cni.ips",
      );
      const third = await lab.container();
      await lab.attach(
        bridgeConfig(lab, { capabilities: { ips: true }, runtimeConfig: { ips: ["10.77.0.43/24"] } }),
        third,
      );
      expectEqual(
        (await readAddresses(third.namespace, "eth0")).map((address) => address.cidr),
        ["10.77.0.43/24"],
        "by runtimeConfig.ips",
      );
    },
  },
  {
    title: "two networks on two bridges live side by side",
    source: "SPEC 1.1.0: names are per network",
    async run(lab) {
      const container = await lab.container();
      const one = await lab.attach(bridgeConfig(lab, { isGateway: true }), container);
      const other = bridgeConfig(lab, {
        name: "net-b",
        bridge: "br1",
        isGateway: true,
        ipam: hostLocal(lab, { subnet: "10.78.0.0/24" }),
      });
      const two = await lab.attach(other, container, { ifName: "eth1" });
      expect(await ping(container.namespace, "10.77.0.1"), "no answer from the first gateway");
      expect(await ping(container.namespace, "10.78.0.1"), "no answer from the second gateway");
      (await one.delWithResult()).expectSilence();
      expect(
        await ping(container.namespace, "10.78.0.1"),
        `no answer from the second gateway for ${two.ip()} after DEL of the first`,
      );
    },
  },
  {
    title: "twelve containers at once on a new network all get in, with addresses of their own",
    source: "SPEC 1.1.0: parallel across containers; plugins#335",
    async run(lab) {
      const config = bridgeConfig(lab, { isGateway: true, ipMasq: true });
      const containers = await Promise.all(Array.from({ length: 12 }, () => lab.container()));
      const attachments = await Promise.all(containers.map((container) => lab.attach(config, container)));
      expectEqual(
        new Set(attachments.map((attachment) => attachment.ip())).size,
        12,
        "number of different addresses",
      );
      const [first, last] = [attachments[0], attachments.at(-1)];
      expect(first !== undefined && last !== undefined, "no attachment");
      expect(await ping(first.container.namespace, last.ip()), "the first container does not reach the last");
      const replies = await Promise.all(attachments.map((attachment) => attachment.delWithResult()));
      for (const reply of replies) reply.expectSilence();
    },
  },
  {
    title: "a netns path by /proc is as good as one by name",
    source: "SPEC 1.1.0, CNI_NETNS; ctr sends /proc/PID/ns/net",
    async run(lab) {
      const container = await lab.container();
      const netns = await lab.holdOpen(container.namespace);
      const attachment = await lab.attach(bridgeConfig(lab), container, { netns });
      expectEqual(attachment.inside().sandbox, netns, "sandbox of the result");
      expectEqual(
        (await readAddresses(container.namespace, "eth0")).length,
        1,
        "number of addresses of eth0",
      );
    },
  },
];
