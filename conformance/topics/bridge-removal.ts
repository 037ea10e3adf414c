import type { Case } from "#conformance/case.ts";
import { bridgeConfig, dualStack, hostLocal } from "#conformance/configs.ts";
import { eventually, expect, expectEqual } from "#conformance/failure.ts";
import { ping } from "#conformance/traffic.ts";
import { readLink, readLinks } from "#conformance/witness.ts";

const ownState = "no state of its own: without netns only the IPAM is asked to DEL";

export const removalCases: readonly Case[] = [
  {
    title: "DEL removes both ends, the addresses' leases and every trace of the container",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipam: dualStack(lab) }),
        await lab.container(),
      );
      (await attachment.delWithResult()).expectSilence();
      expect((await readLink(lab.host, attachment.hostSide().name)) === undefined, "the host side stays");
      expect(
        (await readLink(attachment.container.namespace, "eth0")) === undefined,
        "eth0 stays in the container",
      );
    },
  },
  {
    title: "a network that is used and emptied a second time leaves no more than the first time",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const config = bridgeConfig(lab, {
        isDefaultGateway: true,
        ipMasq: true,
        macspoofchk: true,
        ipam: dualStack(lab),
      });
      const cycle = async (): Promise<void> => {
        const attachment = await lab.attach(config, await lab.container());
        (await attachment.delWithResult()).expectSilence();
      };
      await cycle();
      const first = await lab.footprint();
      await lab.unchanged(cycle);
      // Empty files are locks.
      const paths = (footprint: typeof first): readonly string[] =>
        [...footprint.files].flatMap(([path, content]) => (content === "" ? [] : [path])).sort();
      const before = paths(first);
      let more: readonly string[] = [];
      // A service may clear files away behind its answer.
      await eventually(async () => {
        more = paths(await lab.footprint()).filter((path) => !before.includes(path));
        return more.length === 0;
      }, 10_000);
      expectEqual(more, [], "files after the second time, and not after the first");
    },
  },
  {
    title: "three DELs in a row succeed, the later two with an empty netns and no prevResult",
    source: "SPEC 1.1.0, DEL: must accept repeated calls; CRI sends three",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipMasq: true }),
        await lab.container(),
      );
      (await attachment.delWithResult()).expectSilence();
      await attachment.container.namespace.remove();
      (await attachment.del({ netns: "" })).expectSilence();
      (await attachment.del({ netns: "" })).expectSilence();
    },
  },
  {
    title: "DEL of a container that was never added succeeds",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const container = await lab.container();
      await lab.unchanged(async () => {
        (await lab.call("DEL", bridgeConfig(lab), { container })).expectSilence();
        (await lab.call("DEL", bridgeConfig(lab), { container, netns: "" })).expectSilence();
        (
          await lab.call("DEL", bridgeConfig(lab), { container, environment: { CNI_NETNS: undefined } })
        ).expectSilence();
      });
    },
  },
  {
    title: "DEL without prevResult removes everything",
    source: "SPEC 1.1.0, DEL: prevResult may be absent",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipMasq: true }),
        await lab.container(),
      );
      (await attachment.del()).expectSilence();
    },
  },
  {
    title: "DEL with an empty netns removes the link where the namespace still lives",
    source: "SPEC 1.1.0, DEL: CNI_NETNS optional; to the fullest extent possible",
    reference: ownState,
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab, { isGateway: true }), await lab.container());
      (await attachment.delWithResult({ netns: "" })).expectSilence();
      expect((await readLink(lab.host, attachment.hostSide().name)) === undefined, "the host side stays");
    },
  },
  {
    title: "DEL with a namespace that has gone succeeds and frees the address",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const ipam = hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" });
      const first = await lab.attach(bridgeConfig(lab, { ipam }), await lab.container());
      await first.container.namespace.remove();
      (await first.delWithResult()).expectSilence();
      const second = await lab.attach(bridgeConfig(lab, { ipam }), await lab.container());
      expectEqual(second.ip(), first.ip(), "address of the next container");
    },
  },
  {
    title: "DEL with a netns path that holds something else succeeds and frees the address",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "takes the path for a fault",
    async run(lab) {
      const ipam = hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" });
      const first = await lab.attach(bridgeConfig(lab, { ipam }), await lab.container());
      await first.container.namespace.remove();
      await lab.host.shell(`echo nothing > ${lab.directory}/stale`);
      (await first.delWithResult({ netns: `${lab.directory}/stale` })).expectSilence();
      const second = await lab.attach(bridgeConfig(lab, { ipam }), await lab.container());
      expectEqual(second.ip(), first.ip(), "address of the next container");
    },
  },
  {
    title: "DEL succeeds when the bridge has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipMasq: true }),
        await lab.container(),
      );
      await lab.host.ip("link delete br0");
      (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "DEL succeeds when the host side has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "without the link the rules stay",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipMasq: true }),
        await lab.container(),
      );
      await lab.host.ip(`link delete ${attachment.hostSide().name}`);
      (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "DEL succeeds when the rules have been flushed",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "wants the rules to be there",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipMasq: true }),
        await lab.container(),
      );
      await lab.host.shell("nft flush ruleset");
      (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "DEL succeeds when the directory of the leases has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab), await lab.container());
      await lab.host.shell(`rm -r ${lab.dataDir}`);
      (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "DEL does not touch an interface of that name in another container's namespace",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const config = bridgeConfig(lab, { isGateway: true });
      const one = await lab.attach(config, await lab.container());
      const two = await lab.attach(config, await lab.container());
      (await one.delWithResult()).expectSilence();
      expect(
        await ping(two.container.namespace, "10.77.0.1"),
        "the other container does not reach its gateway",
      );
    },
  },
  {
    title: "DEL after ipMasq was switched off in the config removes the rules all the same",
    source: "SPEC 1.1.0, DEL: to the fullest extent possible; configs change in practice",
    needs: ["nftables masquerade"],
    reference: "does what the config of the DEL says",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipMasq: true }),
        await lab.container(),
      );
      (await attachment.del({ config: bridgeConfig(lab, { isGateway: true }) })).expectSilence();
    },
  },
  {
    title: "DEL after the bridge's name was changed in the config removes the link all the same",
    source: "SPEC 1.1.0, DEL: to the fullest extent possible; configs change in practice",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab, { isGateway: true }), await lab.container());
      (
        await attachment.del({ config: bridgeConfig(lab, { isGateway: true, bridge: "br9" }) })
      ).expectSilence();
      expect((await readLink(lab.host, "br9")) === undefined, "the DEL made br9");
    },
  },
  {
    title: "DEL works at every version, with and without prevResult of that version",
    source: "SPEC 0.1.0 to 1.0.0, DEL",
    async run(lab) {
      for (const version of ["0.3.1", "0.4.0", "1.0.0"]) {
        const attachment = await lab.attach(
          bridgeConfig(lab, { cniVersion: version }),
          await lab.container(),
        );
        (await attachment.delWithResult()).expectSilence();
      }
    },
  },
  {
    title: "an ADD whose pool is exhausted leaves nothing",
    source: "SPEC 1.1.0, ADD; cni#797",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const config = bridgeConfig(lab, {
        isGateway: true,
        ipMasq: true,
        ipam: hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" }),
      });
      await lab.attach(config, await lab.container());
      const container = await lab.container();
      const before = (await readLinks(lab.host)).map((link) => link.name);
      (await lab.call("ADD", config, { container })).expectError({ names: /10\.77\.0\.7/ });
      expectEqual(
        (await readLinks(lab.host)).map((link) => link.name),
        before,
        "links of the host after the failed ADD",
      );
      expect((await readLink(container.namespace, "eth0")) === undefined, "eth0 stays in the container");
    },
  },
  {
    title: "an ADD that can't have one of its addresses gives back the other",
    source: "host-local plugin; SPEC 1.1.0, ADD",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const ranges = [
        [{ subnet: "10.77.0.0/24" }],
        [{ subnet: "fd00:77::/64", rangeStart: "fd00:77::7", rangeEnd: "fd00:77::7" }],
      ];
      const config = bridgeConfig(lab, { ipam: hostLocal(lab, { ranges }) });
      await lab.attach(config, await lab.container());
      const container = await lab.container();
      (await lab.call("ADD", config, { container })).expectError({ names: /fd00:77::7/ });
      const leases = await lab.host.shell(`ls ${lab.dataDir}/net-a`);
      expectEqual(
        leases.split("\n").filter((name) => name.startsWith("10.")).length,
        1,
        "number of IPv4 leases",
      );
    },
  },
];
