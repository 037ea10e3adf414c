import type { Case } from "#conformance/case.ts";
import { dualStack, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { ping } from "#conformance/traffic.ts";
import { readAddresses } from "#conformance/witness.ts";
import { expectNone, inside } from "./child-links.ts";

const needs = ["dummy"] as const;

export const dummyCases: readonly Case[] = [
  {
    title: "ADD gives a dummy with addresses that answer at once; DEL takes it away",
    source: "dummy README",
    needs,
    async run(lab) {
      const config = plainConfig("dummy", { ipam: dualStack(lab) });
      const attachment = await lab.attach(config, await lab.container());
      const { namespace } = attachment.container;
      const link = await inside(namespace);
      expectEqual([link.kind, attachment.inside().mac], ["dummy", link.mac], "kind and MAC address");
      expectEqual((await readAddresses(namespace, "eth0")).length, 2, "number of addresses");
      await namespace.ip("link set lo up");
      for (const { ip } of attachment.result.ips) {
        expect(await ping(namespace, ip.replace(/\/.*/, "")), `no answer from ${ip}`);
      }
      (await attachment.check()).expectSilence();
      await namespace.ip("link set eth0 down");
      (await attachment.check()).expectError({ names: /eth0/ });
      (await attachment.delWithResult()).expectSilence();
      await expectNone(namespace, "eth0");
    },
  },
  {
    title: "without ipam it is refused",
    source: "plugins dummy: dummy interface requires an IPAM configuration",
    async run(lab) {
      await lab.refuse(plainConfig("dummy"), /dummy interface requires an IPAM configuration/);
    },
  },
  {
    title: "DEL works with an empty netns, and again",
    source: "SPEC 1.1.0, DEL: missing resources",
    needs,
    async run(lab) {
      const config = plainConfig("dummy", { ipam: dualStack(lab) });
      const attachment = await lab.attach(config, await lab.container());
      (await attachment.delWithResult({ netns: "" })).expectSilence();
      (await attachment.delWithResult()).expectSilence();
    },
  },
];
