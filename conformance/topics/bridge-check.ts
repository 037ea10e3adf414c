import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, dualStack, gateway4, hostLocal } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { expectLossSeen } from "#conformance/loss.ts";
import { isObject } from "#conformance/printed-result.ts";
import { askServer, ping } from "#conformance/traffic.ts";
import { list } from "#conformance/witness.ts";

interface Tampering {
  readonly title: string;
  readonly source?: string;
  readonly reference?: string;
  /** What the config has besides gateway and default route. */
  readonly fields?: Readonly<Record<string, boolean | string>>;
  readonly act: (lab: Lab, attachment: Attachment) => Promise<unknown>;
  /** What the error must name, where the message is of use. */
  readonly names?: RegExp;
}

const partial = "compares links, addresses and routes only";
const demand = "SPEC 1.1.0, CHECK: error if a resource of the result is missing or in an invalid state";
const beyond = "SPEC 1.1.0, CHECK: other resources of the plugin, such as firewall rules and reservations";

function inContainer(line: string): Tampering["act"] {
  return (_lab, attachment) => attachment.container.namespace.ip(line);
}

const tamperings: readonly Tampering[] = [
  {
    title: "the interface was deleted in the container",
    act: inContainer("link delete eth0"),
    names: /eth0/,
  },
  {
    title: "the interface was renamed in the container",
    act: (_lab, { container }) =>
      container.namespace.ipBatch(["link set eth0 down", "link set eth0 name eth9"]),
    names: /eth0/,
  },
  { title: "the interface was set down", act: inContainer("link set eth0 down") },
  {
    title: "the address was removed",
    act: (_lab, attachment) =>
      attachment.container.namespace.ip(`address delete ${attachment.address().address} dev eth0`),
    names: /10\.77\.0\.2/,
  },
  {
    title: "the address has another prefix",
    act: async (_lab, attachment) =>
      attachment.container.namespace.ipBatch([
        `address delete ${attachment.address().address} dev eth0`,
        `address add ${attachment.ip()}/25 dev eth0`,
      ]),
  },
  { title: "the default route was removed", act: inContainer("route delete default") },
  {
    title: "the default route goes by another gateway",
    act: inContainer("route replace default via 10.77.0.99"),
    reference: "compares destinations only",
  },
  {
    title: "the MAC of the interface was changed",
    act: inContainer("link set eth0 address 02:66:66:66:66:66"),
    names: /02:66|mac/i,
  },
  {
    title: "the host side was taken off the bridge",
    act: (lab, attachment) => lab.host.ip(`link set ${attachment.hostSide().name} nomaster`),
  },
  {
    title: "the host side was set down",
    act: (lab, attachment) => lab.host.ip(`link set ${attachment.hostSide().name} down`),
    reference: partial,
  },
  { title: "the bridge was deleted", act: (lab) => lab.host.ip("link delete br0"), names: /br0/ },
  {
    title: "the bridge was set down",
    act: (lab) => lab.host.ip("link set br0 down"),
    reference: partial,
  },
  {
    title: "the gateway's address was removed from the bridge",
    source: beyond,
    act: (lab) => lab.host.ip(`address delete ${gateway4}/24 dev br0`),
    reference: partial,
  },
  {
    title: "promiscMode was switched off on the bridge",
    source: "bridge plugin, CHECK",
    fields: { promiscMode: true },
    act: (lab) => lab.host.ip("link set br0 promisc off"),
  },
  {
    title: "hairpinMode was switched off on the port",
    source: beyond,
    fields: { hairpinMode: true },
    act: (lab, attachment) => lab.host.shell(`bridge link set dev ${attachment.hostSide().name} hairpin off`),
    reference: partial,
  },
  {
    title: "the address's lease was deleted",
    source: beyond,
    act: (lab, attachment) => lab.host.shell(`rm ${lab.dataDir}/net-a/${attachment.ip()}`),
  },
];

export const checkCases: readonly Case[] = [
  ...["0.4.0", "1.0.0"].map(
    (version): Case => ({
      title: `CHECK right after ADD is silent at ${version}`,
      source: "SPEC 1.1.0, CHECK: may be called at once after ADD",
      async run(lab) {
        const config = bridgeConfig(lab, {
          cniVersion: version,
          isDefaultGateway: true,
          ipMasq: true,
          ipam: dualStack(lab),
        });
        const attachment = await lab.attach(config, await lab.container());
        (await attachment.check()).expectSilence();
        (await attachment.check()).expectSilence();
      },
    }),
  ),
  {
    title: "CHECK is silent with every option on",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      const config = bridgeConfig(lab, {
        isDefaultGateway: true,
        ipMasq: true,
        macspoofchk: true,
        hairpinMode: true,
        mtu: 1400,
        dns: { nameservers: ["192.0.2.53"] },
      });
      const attachment = await lab.attach(config, await lab.container(), {
        args: "IgnoreUnknown=1;MAC=02:00:00:00:00:01",
      });
      (await attachment.check()).expectSilence();
    },
  },
  ...tamperings.map(
    (tampering): Case => ({
      title: `CHECK fails after ${tampering.title}`,
      source: tampering.source ?? demand,
      ...(tampering.reference === undefined ? {} : { reference: tampering.reference }),
      async run(lab) {
        const config = bridgeConfig(lab, { isDefaultGateway: true, ...tampering.fields });
        const attachment = await lab.attach(config, await lab.container());
        (await attachment.check()).expectSilence();
        await tampering.act(lab, attachment);
        const reply = await attachment.check();
        reply.expectError(tampering.names === undefined ? {} : { names: tampering.names });
        // A promiscuous or renamed link is the case's own doing: DEL need not bring it back.
        if (tampering.title.startsWith("the interface was renamed"))
          await attachment.container.namespace.ip("link set eth9 name eth0");
      },
    }),
  ),
  {
    title: "CHECK fails after the masquerade rules were flushed",
    source: beyond,
    reference: partial,
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace);
      const config = bridgeConfig(lab, { isDefaultGateway: true, ipMasq: true });
      const attachment = await lab.attach(config, await lab.container());
      const { namespace } = attachment.container;
      await expectLossSeen(attachment, () => lab.host.shell("nft flush ruleset"), {
        works: async () =>
          expectEqual(await askServer(namespace, "tcp", outside.ip4), outside.host4, "source seen outside"),
      });
    },
  },
  {
    title: "CHECK fails after the rules of macspoofchk were flushed",
    source: beyond,
    needs: ["nftables bridge family"],
    reference: partial,
    async run(lab) {
      const config = bridgeConfig(lab, { isDefaultGateway: true, macspoofchk: true });
      const attachment = await lab.attach(config, await lab.container());
      const { namespace } = attachment.container;
      await expectLossSeen(attachment, () => lab.host.shell("nft flush ruleset"), {
        works: async () => {
          expect(
            await ping(namespace, gateway4),
            "the container does not reach its gateway with its own MAC",
          );
          await namespace.ip("link set eth0 address 02:66:66:66:66:66");
          expect(
            !(await ping(namespace, gateway4, 1)),
            "the container reaches its gateway with a forged MAC",
          );
          await namespace.ip(`link set eth0 address ${attachment.inside().mac}`);
        },
      });
    },
  },
  {
    title: "CHECK fails with a prevResult that is another container's",
    source: demand,
    async run(lab) {
      const config = bridgeConfig(lab, { isDefaultGateway: true });
      const one = await lab.attach(config, await lab.container());
      const two = await lab.attach(config, await lab.container());
      (await one.check({ prevResult: two.result.json })).expectError();
    },
  },
  {
    title: "CHECK takes the MAC from prevResult, where a later plugin has changed it",
    source: "SPEC 1.1.0, CHECK: must allow for changes of later plugins",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab), await lab.container());
      await attachment.container.namespace.ip("link set eth0 address 02:77:77:77:77:77");
      const interfaces = list(attachment.result.json["interfaces"]).map((entry) =>
        isObject(entry) && entry["name"] === "eth0" ? { ...entry, mac: "02:77:77:77:77:77" } : entry,
      );
      (await attachment.check({ prevResult: { ...attachment.result.json, interfaces } })).expectSilence();
    },
  },
  {
    title: "CHECK allows further addresses, routes and interfaces in the container",
    source: "SPEC 1.1.0, CHECK: must allow for changes of later plugins",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab, { ipam: hostLocal(lab) }), await lab.container());
      await attachment.container.namespace.ipBatch([
        "address add 192.0.2.9/24 dev eth0",
        "route add 203.0.113.0/24 via 192.0.2.1",
        "link add other0 type veth peer name other1",
      ]);
      (await attachment.check()).expectSilence();
    },
  },
  {
    title: "CHECK changes nothing",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { isDefaultGateway: true, ipMasq: true }),
        await lab.container(),
      );
      await lab.unchanged(async () => {
        (await attachment.check()).expectSilence();
      });
    },
  },
];
