import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, dualStack, hostLocal, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Container, Lab } from "#conformance/lab.ts";

const sbrReadme = "sbr README";

/** A container with eth0 of another network, and eth1 of which sbr is asked for. */
async function twoInterfaces(lab: Lab): Promise<Attachment> {
  const container = await lab.container();
  const other = { name: "net-b", bridge: "br1", ipam: hostLocal(lab, { subnet: "10.78.0.0/24" }) };
  await lab.attach(bridgeConfig(lab, { ...other, isDefaultGateway: true }), container);
  const config = bridgeConfig(lab, { isGateway: true, ipam: dualStack(lab) });
  return lab.attach(config, container, { ifName: "eth1" });
}

function sbrConfig(previous: Attachment, extra: JsonObject = {}): JsonObject {
  return plainConfig("sbr", { prevResult: previous.result.json, ...extra });
}

async function routed(
  lab: Lab,
  extra: JsonObject = {},
): Promise<{ previous: Attachment; attachment: Attachment }> {
  const previous = await twoInterfaces(lab);
  const attachment = await lab.attach(sbrConfig(previous, extra), previous.container, { ifName: "eth1" });
  return { previous, attachment };
}

async function wayOf({ namespace }: Container, from: string, to: string): Promise<string> {
  const [route] = JSON.parse(await namespace.shell(`ip -j route get ${to} from ${from}`)) as readonly {
    readonly dev: string;
  }[];
  return route?.dev ?? "";
}

async function rulesFrom({ namespace }: Container, address: string): Promise<readonly string[]> {
  const rules = await namespace.shell("ip rule; ip -6 rule");
  return rules.split("\n").filter((line) => line.includes(`from ${address} `));
}

export const sbrCases: readonly Case[] = [
  {
    title: "what is sent from an address leaves by its interface, in both families",
    source: sbrReadme,
    async run(lab) {
      const { attachment } = await routed(lab);
      const { container } = attachment;
      expectEqual(await wayOf(container, attachment.ip(4), "192.0.2.9"), "eth1", "way of IPv4");
      expectEqual(await wayOf(container, attachment.ip(6), "2001:db8::9"), "eth1", "way of IPv6");
    },
  },
  {
    title: "all else leaves by the other interface",
    source: sbrReadme,
    async run(lab) {
      const { attachment } = await routed(lab);
      const eth0 = (await attachment.container.namespace.shell("ip -4 -o addr show dev eth0")).match(
        /inet ([\d.]+)/,
      );
      expectEqual(await wayOf(attachment.container, eth0?.[1] ?? "", "192.0.2.9"), "eth0", "way");
    },
  },
  {
    title: "CHECK of the plugin before allows for its routes being in another table, and for none being gone",
    source: "SPEC 1.1.0, CHECK: changes by plugins that run later in the chain",
    reference: "looks into the main table alone",
    async run(lab) {
      const config = bridgeConfig(lab, { isDefaultGateway: true });
      const previous = await lab.attach(config, await lab.container());
      await lab.attach(sbrConfig(previous), previous.container);
      (await previous.check()).expectSilence();
      await previous.container.namespace.shell("ip route flush table 100");
      (await previous.check()).expectError({ names: /0\.0\.0\.0\/0/ });
    },
  },
  {
    title: "tables are numbered from 100 on, and those in use are passed over",
    source: sbrReadme,
    async run(lab) {
      const previous = await twoInterfaces(lab);
      const { container } = previous;
      await container.namespace.shell("ip route add 203.0.113.0/24 dev eth0 table 100");
      const attachment = await lab.attach(sbrConfig(previous), container, { ifName: "eth1" });
      const [rule = ""] = await rulesFrom(container, attachment.ip(4));
      expect(/lookup 10[12]/.test(rule), `the rule is: ${rule}`);
    },
  },
  {
    title: "with a table there are rules alone",
    source: `${sbrReadme}, table`,
    reference: "unknown before 1.2.0",
    async run(lab) {
      const previous = await twoInterfaces(lab);
      const { container } = previous;
      const before = await container.namespace.shell("ip route; ip -6 route");
      const attachment = await lab.attach(sbrConfig(previous, { table: 7 }), container, { ifName: "eth1" });
      expect(
        /lookup 7\b/.test((await rulesFrom(container, attachment.ip(4)))[0] ?? ""),
        "no rule to table 7",
      );
      expectEqual(await container.namespace.shell("ip route; ip -6 route"), before, "main table");
    },
  },
  {
    title: "gateways take the place of the result's, one of each family",
    source: `${sbrReadme}, gateways`,
    reference: "unknown in v1.1.1",
    async run(lab) {
      const { attachment } = await routed(lab, { gateways: ["10.77.0.99"] });
      const { namespace } = attachment.container;
      const shown = await namespace.shell(`ip route get 192.0.2.9 from ${attachment.ip(4)}`);
      expect(shown.includes("via 10.77.0.99"), `the way is: ${shown}`);
      const config = sbrConfig(attachment, { gateways: ["10.77.0.99", "10.77.0.98"] });
      const reply = await lab.call("ADD", config, { container: attachment.container, ifName: "eth1" });
      reply.expectError({ names: /gateways list cannot contain more than 2 entries/ });
    },
  },
  {
    title: "ADD without prevResult is refused",
    source: `${sbrReadme}: chained`,
    async run(lab) {
      await lab.refuse(plainConfig("sbr"), /chained/);
    },
  },
  {
    title: "DEL removes the rules, with the interface there",
    source: sbrReadme,
    async run(lab) {
      const { attachment } = await routed(lab);
      (await attachment.delWithResult()).expectSilence();
      for (const family of [4, 6] as const)
        expectEqual(
          await rulesFrom(attachment.container, attachment.ip(family)),
          [],
          `rules of IPv${family}`,
        );
    },
  },
  {
    title: "DEL puts the routes of the main table back",
    source: "SPEC 1.1.0, DEL",
    reference: "leaves the main table without them",
    async run(lab) {
      const previous = await twoInterfaces(lab);
      const { container } = previous;
      const look = async () => (await container.namespace.shell("ip route; ip -6 route")).split("\n").sort();
      const before = await look();
      const attachment = await lab.attach(sbrConfig(previous), container, { ifName: "eth1" });
      (await attachment.delWithResult()).expectSilence();
      expectEqual(await look(), before, "main table");
    },
  },
  {
    title: "DEL succeeds when the interface or the namespace is gone, and again",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: "fails without the namespace",
    async run(lab) {
      const { previous, attachment } = await routed(lab);
      await attachment.container.namespace.ip("link del eth1");
      (await attachment.delWithResult()).expectSilence();
      (await attachment.delWithResult()).expectSilence();
      await attachment.container.namespace.remove();
      (await attachment.del()).expectSilence();
      (await attachment.del({ netns: "" })).expectSilence();
      (await previous.del({ netns: "" })).expectSilence();
    },
  },
  {
    title: "CHECK is silent after ADD, and fails when a rule is gone",
    source: "SPEC 1.1.0, CHECK",
    reference: "has no CHECK",
    async run(lab) {
      const { attachment } = await routed(lab);
      (await attachment.check()).expectSilence();
      await attachment.container.namespace.shell(`ip rule del from ${attachment.ip(4)}`);
      (await attachment.check()).expectError({});
    },
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const { attachment } = await routed(lab);
      const valid = [{ containerID: attachment.container.id, ifname: "eth1" }];
      const config = plainConfig("sbr", { cniVersion: "1.1.0", "cni.dev/valid-attachments": valid });
      (await lab.call("GC", config)).expectSilence();
      expectEqual((await rulesFrom(attachment.container, attachment.ip(4))).length, 1, "rules");
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
