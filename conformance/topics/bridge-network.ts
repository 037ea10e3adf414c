import type { Case } from "#conformance/case.ts";
import {
  bridgeConfig,
  dualStack,
  gateway4,
  gateway6,
  hostLocal,
  routedBridge,
} from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { askServer, ping } from "#conformance/traffic.ts";
import { readAddresses } from "#conformance/witness.ts";

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
    source: "bridge README, ipMasq",
    async run(lab) {
      const outside = await lab.outside();
      await outside.namespace.ip(`route add 10.77.0.0/24 via ${outside.host4}`);
      await lab.serve(outside.namespace);
      const attachment = await lab.attach(routedBridge(lab), await lab.container());
      expectEqual(
        await askServer(attachment.container.namespace, "tcp", outside.ip4),
        attachment.ip(),
        "source seen outside",
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
