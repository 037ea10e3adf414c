import type { Case } from "#conformance/case.ts";
import { plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { code } from "#conformance/reply.ts";
import { readLink } from "#conformance/witness.ts";

const design = "netctl, driver host";

export const hostCases: readonly Case[] = [
  {
    title: "ADD answers with the host's interfaces and addresses, and creates nothing",
    source: design,
    async run(lab) {
      const outside = await lab.outside();
      const container = await lab.container();
      await lab.unchanged(async () => {
        const attachment = await lab.attach(plainConfig("host"), container, { netns: lab.host.path });
        const uplink = attachment.result.interfaces.find((entry) => entry.name === "uplink0");
        expectEqual(uplink?.mac, (await readLink(lab.host, "uplink0"))?.mac, "MAC of uplink0 in the result");
        for (const ip of [outside.host4, outside.host6])
          expect(
            attachment.result.ips.some((entry) => entry.ip === ip),
            `${ip} is not in the result`,
          );
        (
          await attachment.call(
            "CHECK",
            { ...attachment.config, prevResult: attachment.result.json },
            { netns: lab.host.path },
          )
        ).expectSilence();
        (await attachment.del({ netns: lab.host.path })).expectSilence();
      });
    },
  },
  {
    title: "the index of each address points at its interface",
    source: "SPEC 1.1.0, ADD: ips[].interface",
    async run(lab) {
      const outside = await lab.outside();
      const attachment = await lab.attach(plainConfig("host"), await lab.container(), {
        netns: lab.host.path,
      });
      const entry = attachment.result.ips.find((candidate) => candidate.ip === outside.host4);
      expectEqual(
        attachment.result.interfaces[entry?.interface ?? -1]?.name,
        "uplink0",
        `interface of ${outside.host4}`,
      );
      expectEqual(entry?.address, "198.51.100.1/24", "address with its prefix");
    },
  },
  {
    title: "a namespace that is not the host's is refused, code 8",
    source: design,
    async run(lab) {
      await lab.refuse(plainConfig("host"), [], { code: code.invalidNamespace });
    },
  },
  {
    title: "DEL succeeds any number of times, with whatever netns",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const container = await lab.container();
      await lab.unchanged(async () => {
        for (const netns of [lab.host.path, "", "/run/netns/never-was"])
          (await lab.call("DEL", plainConfig("host"), { container, netns })).expectSilence();
      });
    },
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    async run(lab) {
      const config = plainConfig("host", { cniVersion: "1.1.0", "cni.dev/valid-attachments": [] });
      (await lab.call("GC", config)).expectSilence();
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
  {
    title: "several containers share the host's network",
    source: design,
    async run(lab) {
      for (let at = 0; at < 2; at += 1)
        await lab.attach(plainConfig("host"), await lab.container(), { netns: lab.host.path });
    },
  },
];
