import type { Case } from "#conformance/case.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { expectLossSeen } from "#conformance/loss.ts";
import { askServer } from "#conformance/traffic.ts";
import { bridged, mapping, portmapConfig, portmapReadme, published, servedPort } from "./portmap-network.ts";

const nobody = /^nobody: /;
const both = [mapping(8080), mapping(8080, { protocol: "udp" })];
const needsPorts = "does nothing without the mappings in runtimeConfig";

export const portRemovalCases: readonly Case[] = [
  {
    title: "DEL takes every trace of the container away",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const outside = await lab.outside();
      const attachment = await published(lab, both);
      (await attachment.delWithResult()).expectSilence();
      expect(
        nobody.test(await askServer(outside.namespace, "tcp", outside.host4, 8080)),
        "the port answers after DEL",
      );
    },
  },
  {
    title: "DEL with neither netns nor prevResult removes everything, and may be repeated",
    source: "SPEC 1.1.0, DEL; CRI sends three",
    async run(lab) {
      const attachment = await published(lab, both);
      const { prevResult: _, ...config } = attachment.config;
      for (let times = 0; times < 3; times += 1)
        (await attachment.del({ netns: "", config })).expectSilence();
    },
  },
  {
    title: "DEL without the mappings removes everything",
    source: "SPEC 1.1.0, DEL: to the fullest extent possible; plugins#418",
    reference: needsPorts,
    async run(lab) {
      const attachment = await published(lab, both);
      const { prevResult: _, runtimeConfig: _ports, ...config } = attachment.config;
      (await attachment.del({ netns: "", config })).expectSilence();
    },
  },
  {
    title: "DEL of a container that was never added changes nothing",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      await published(lab, both);
      const stranger = await lab.container();
      const before = await bridged(lab, "net-a", stranger);
      await lab.unchanged(async () => {
        (await lab.call("DEL", portmapConfig(before, both), { container: stranger })).expectSilence();
      });
    },
  },
  {
    title: "DEL succeeds when the rules have been flushed",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "its bridge wants the rules of ipMasq to be there",
    async run(lab) {
      const attachment = await published(lab, both);
      await lab.host.shell("nft flush ruleset");
      (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "a late DEL leaves the mapping of the container that has address and port now",
    source: "plugins#1139",
    async run(lab) {
      const outside = await lab.outside();
      const old = await published(lab, both);
      const heir = lab.sibling(old.container);
      const previous = { ...old.config, runtimeConfig: { portMappings: both } };
      (await old.delWithResult()).expectSilence();
      await lab.attach(previous, heir);
      (await old.delWithResult({ netns: "" })).expectSilence();
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8080), outside.ip4, "source seen");
    },
  },
  {
    title: "DEL of one network leaves the container's mapping of another",
    source: "SPEC 1.1.0: an attachment is container, network and interface",
    async run(lab) {
      const outside = await lab.outside();
      const first = await published(lab, [mapping(8080)]);
      const other = { ...first.config, name: "net-b", runtimeConfig: { portMappings: [mapping(8081)] } };
      await lab.attach(other, first.container);
      (await first.delWithResult()).expectSilence();
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8081), outside.ip4, "source seen");
    },
  },
  {
    title: "after ADD, DEL and ADD there is no more than after the first ADD",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const previous = await bridged(lab);
      const cycle = async (): Promise<void> => {
        const attachment = await lab.attach(portmapConfig(previous, both), previous.container);
        (await attachment.delWithResult()).expectSilence();
      };
      await cycle();
      await lab.unchanged(cycle);
    },
  },
  {
    title: "CHECK succeeds after ADD, and fails when the rules have been flushed",
    source: "SPEC 1.1.0, CHECK",
    reference: "looks for the rules of IPv4 in ip6tables",
    async run(lab) {
      const outside = await lab.outside();
      const attachment = await published(lab, both);
      await expectLossSeen(attachment, () => lab.host.shell("nft flush ruleset"), {
        works: async () => {
          for (const protocol of ["tcp", "udp"] as const) {
            const seen = await askServer(outside.namespace, protocol, outside.host4, 8080);
            expectEqual(seen, outside.ip4, `source seen by ${protocol}`);
          }
        },
      });
    },
  },
  {
    title: "GC removes the mappings of attachments that are not valid, and no others",
    source: "SPEC 1.1.0, GC",
    reference: "has no GC",
    async run(lab) {
      const outside = await lab.outside();
      const stale = await published(lab, both);
      const valid = await published(lab, [mapping(8081)]);
      const attachments = [{ containerID: valid.container.id, ifname: "eth0" }];
      const config = {
        cniVersion: "1.1.0",
        name: "net-a",
        type: "portmap",
        "cni.dev/valid-attachments": attachments,
      };
      (await lab.call("GC", config)).expectSilence();
      stale.forget();
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8081), outside.ip4, "source seen");
      expect(
        nobody.test(await askServer(outside.namespace, "tcp", outside.host4, 8080)),
        "the stale port answers after GC",
      );
    },
  },
  {
    title: "STATUS succeeds where ports can be published",
    source: "SPEC 1.1.0, STATUS",
    reference: "has no STATUS before 1.6.0",
    async run(lab) {
      (await lab.call("STATUS", { cniVersion: "1.1.0", name: "net-a", type: "portmap" })).expectSilence();
    },
  },
];

export const portRefusalCases: readonly Case[] = [
  {
    title: "ADD without prevResult is refused",
    source: `${portmapReadme}: chained`,
    async run(lab) {
      const config = {
        cniVersion: "1.0.0",
        name: "net-a",
        type: "portmap",
        runtimeConfig: { portMappings: both },
      };
      await lab.refuse(config, /chained/);
    },
  },
  {
    title: "port numbers that are none are refused",
    source: portmapReadme,
    async run(lab) {
      const before = await bridged(lab);
      for (const broken of [mapping(0), mapping(-1), mapping(8080, { containerPort: 0 })])
        await lab.refuse(portmapConfig(before, [broken]), /Invalid (host|container) port number/, {
          container: before.container,
        });
    },
  },
  {
    title: "port numbers above 65535 are refused",
    source: portmapReadme,
    reference: "leaves it to iptables, after its chains are made",
    async run(lab) {
      const before = await bridged(lab);
      await lab.refuse(portmapConfig(before, [mapping(65536)]), /65536/, { container: before.container });
    },
  },
  {
    title: "a backend that there is not is refused",
    source: `${portmapReadme}, backend`,
    reference: "unknown before 1.6.0",
    async run(lab) {
      const before = await bridged(lab);
      await lab.refuse(portmapConfig(before, both, { backend: "ipvs" }), /backend "ipvs"/, {
        container: before.container,
      });
    },
  },
  {
    title: "markMasqBit is 0 to 31, and not beside externalSetMarkChain",
    source: `${portmapReadme}, markMasqBit`,
    async run(lab) {
      const before = await bridged(lab);
      const { container } = before;
      await lab.refuse(portmapConfig(before, both, { markMasqBit: 32 }), /MasqMarkBit must be between/, {
        container,
      });
      await lab.refuse(
        portmapConfig(before, both, { markMasqBit: 5, externalSetMarkChain: "KUBE-MARK-MASQ" }),
        /externalSetMarkChain and markMasqBit/,
        { container },
      );
    },
  },
  {
    title: "a port that another container has is refused, naming that container",
    source: "moby#13024; plugins: no reservation of host ports",
    reference: "the first keeps it, the second never hears of it",
    async run(lab) {
      const first = await published(lab, both);
      const before = await bridged(lab);
      const config = portmapConfig(before, [mapping(9000), mapping(8080, { hostIP: "127.0.0.1" })]);
      await lab.refuse(config, [/8080/, new RegExp(first.container.id)], { container: before.container });
      (await first.delWithResult()).expectSilence();
      await lab.attach(config, before.container);
    },
  },
  {
    title: "a port on which a process of the host listens is refused",
    source: "moby#13024",
    reference: "takes it from the process",
    async run(lab) {
      await lab.serve(lab.host, 8080);
      const before = await bridged(lab);
      for (const protocol of ["tcp", "udp"])
        await lab.refuse(portmapConfig(before, [mapping(8080, { protocol })]), /8080/, {
          container: before.container,
        });
      await lab.attach(portmapConfig(before, [mapping(servedPort)]), before.container);
    },
  },
];
