import type { Case } from "#conformance/case.ts";
import {
  bridgeConfig,
  dualStack,
  gateway4,
  gateway6,
  hostLocal,
  routedBridge,
} from "#conformance/configs.ts";
import { expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { type Route, readAddresses, readRoutes } from "#conformance/witness.ts";

async function bridgeAddresses(lab: Lab): Promise<readonly string[]> {
  return (await readAddresses(lab.host, "br0")).map((address) => address.cidr);
}

function defaults(routes: readonly Route[]): readonly string[] {
  return routes.filter((route) => route.dst === "default").map((route) => route.gateway ?? route.dev ?? "?");
}

/** Which addresses the bridge has, and what of that the host and the containers get for their routes. */
export const gatewayCases: readonly Case[] = [
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
      const { container, result } = await lab.attach(routedBridge(lab), await lab.container());
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
];
