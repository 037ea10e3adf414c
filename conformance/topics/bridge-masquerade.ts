import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, gateway6, hostLocal, routedBridge } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { askServer, ping } from "#conformance/traffic.ts";
import { readRuleset } from "#conformance/witness.ts";

const masqueradeSource = "bridge README, ipMasq";

/** ipMasq with one backend, or with none named: the outside sees the host and nobody else does. */
function casesOf(backend: string | undefined): readonly Case[] {
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
        const { container } = await lab.attach(routedBridge(lab, extra), await lab.container());
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
        const { container } = await lab.attach(routedBridge(lab, extra), await lab.container());
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
        const one = await lab.attach(routedBridge(lab, extra), await lab.container());
        const two = await lab.attach(routedBridge(lab, extra), await lab.container());
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
        const attachment = await lab.attach(routedBridge(lab, extra), await lab.container());
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
        const one = await lab.attach(routedBridge(lab, extra), await lab.container());
        const two = await lab.attach(routedBridge(lab, extra), await lab.container());
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
        const config = routedBridge(lab, {
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

export const masqueradeCases: readonly Case[] = [
  ...casesOf(undefined),
  ...casesOf("iptables"),
  ...casesOf("nftables"),
  {
    title: "ipMasqBackend nftables makes no rule in iptables' tables",
    source: "bridge README, ipMasqBackend",
    needs: ["nftables masquerade"],
    reference: "v1.1.1 is older than the field",
    async run(lab) {
      const attachment = await lab.attach(
        routedBridge(lab, { ipMasq: true, ipMasqBackend: "nftables" }),
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
        routedBridge(lab, { ipMasq: true, ipMasqBackend: "iptables", insistOnBackend: true }),
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
      const config = routedBridge(lab, { ipMasq: true, ipMasqBackend: "iptables" });
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
      await lab.attach(routedBridge(lab, { ipMasq: true }), await lab.container());
      const ruleset = await readRuleset(lab.host);
      expect(
        ruleset.includes("224.0.0.0/4") && ruleset.includes("ff00::/8"),
        "the ruleset exempts no multicast",
      );
    },
  },
];
