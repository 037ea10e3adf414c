import type { Case } from "#conformance/case.ts";
import { dualStack } from "#conformance/configs.ts";
import { expect } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { isUnanswered } from "#conformance/traffic.ts";
import {
  craftRoute,
  isolationReadme,
  nat,
  placed,
  publish,
  reaches,
  there,
  unknown,
} from "./isolation-network.ts";
import { servedPort } from "./portmap-network.ts";

const isolationPage = "docs/isolation.md";

async function addUserRule({ host }: Lab, rule: string): Promise<void> {
  const words = ["add", "rule", "inet", "netctl", "user_forward", ...rule.split(" ")];
  const { exitCode, stderr } = await host.enter("nft", words);
  expect(exitCode === 0, `the chain user_forward takes no rule: ${stderr.trim().split("\n")[0]}`);
}

/** Whom an operator lets through, or keeps out, beside what the network's fields say. */
export const openingCases: readonly Case[] = [
  {
    title: "trustedInterfaces: from there the container's own address is reached, from another network not",
    source: isolationReadme,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, { ...nat, trustedInterfaces: ["uplink0"], ipam: dualStack(lab) });
      const other = await placed(lab, nat, there);
      await craftRoute(outside);
      for (const family of [4, 6] as const)
        expect(
          await reaches(outside.namespace, target.ip(family)),
          `its IPv${family} address is not reached`,
        );
      expect(
        await isUnanswered(other.container.namespace, target.ip(), servedPort),
        "another network reaches it",
      );
    },
  },
  {
    title: "trustedInterfaces: what comes by another interface is kept out",
    source: isolationReadme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, { ...nat, trustedInterfaces: ["uplink1"] });
      await craftRoute(outside);
      expect(await reaches(lab.host, target.ip()), "the host does not reach it");
      expect(await isUnanswered(outside.namespace, target.ip(), servedPort), "the outside reaches it");
    },
  },
  {
    title: "user_forward: what it accepts reaches a network that would drop it",
    source: isolationPage,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, nat);
      await craftRoute(outside);
      await addUserRule(lab, `ip saddr ${outside.ip4} tcp dport ${servedPort} accept`);
      expect(await reaches(outside.namespace, target.ip()), "the outside does not reach it");
      await lab.host.shell("nft flush chain inet netctl user_forward");
      expect(
        await isUnanswered(outside.namespace, target.ip(), servedPort),
        "the outside reaches it without the rule",
      );
    },
  },
  {
    title:
      "user_forward: what it accepts gets out of an internal network, and what it drops reaches no published port",
    source: isolationPage,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace, servedPort);
      const target = await placed(lab, nat);
      await publish(lab, target);
      const inside = await placed(lab, { internal: true }, there);
      const { namespace } = inside.container;
      await namespace.shell("ip route replace default via 10.78.0.1");
      await outside.namespace.shell(`ip route add ${there.subnet} via ${outside.host4}`);
      expect(await reaches(outside.namespace, outside.host4, 8080), "the published port is not reached");
      for (const rule of [
        "iifname br1 oifname uplink0 accept",
        "iifname uplink0 oifname br1 accept",
        "meta l4proto tcp ct original proto-dst 8080 drop",
      ])
        await addUserRule(lab, rule);
      expect(await reaches(namespace, outside.ip4), "the outside is not reached");
      expect(
        await isUnanswered(outside.namespace, outside.host4, 8080),
        "the published port is reached past the rule",
      );
      await lab.host.shell("nft flush chain inet netctl user_forward");
    },
  },
];
