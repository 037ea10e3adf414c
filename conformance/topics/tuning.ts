import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import type { Namespace } from "#conformance/namespace.ts";
import { type Link, readLink } from "#conformance/witness.ts";

const tuningReadme = "tuning README";
const newMac = "02:00:00:00:00:0a";

function tuningConfig(previous: Attachment, extra: JsonObject): JsonObject {
  return plainConfig("tuning", { prevResult: previous.result.json, ...extra });
}

async function tuned(lab: Lab, extra: JsonObject): Promise<{ previous: Attachment; attachment: Attachment }> {
  const previous = await lab.attach(bridgeConfig(lab), await lab.container());
  return { previous, attachment: await lab.attach(tuningConfig(previous, extra), previous.container) };
}

async function sysctl(namespace: Namespace, key: string): Promise<string> {
  return (await namespace.shell(`cat /proc/sys/${key}`)).trim();
}

async function eth0(attachment: Attachment): Promise<Link> {
  const link = await readLink(attachment.container.namespace, "eth0");
  expect(link !== undefined, "eth0 is not there");
  return link;
}

export const tuningCases: readonly Case[] = [
  {
    title: "sysctls are set, with IFNAME replaced",
    source: `${tuningReadme}, sysctl`,
    async run(lab) {
      const sysctls = { "net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1" };
      const { attachment } = await tuned(lab, { sysctl: sysctls });
      const { namespace } = attachment.container;
      expectEqual(await sysctl(namespace, "net/core/somaxconn"), "500", "somaxconn");
      expectEqual(await sysctl(namespace, "net/ipv4/conf/eth0/arp_filter"), "1", "arp_filter");
    },
  },
  {
    title: "keys that are not below net are refused",
    source: `${tuningReadme}, sysctl: invalid net sysctl key`,
    reference: "v1.1.1 looks for them below net",
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { container } = previous;
      for (const key of ["kernel.domainname", "net/../kernel/domainname"])
        await lab.refuse(tuningConfig(previous, { sysctl: { [key]: "x" } }), /invalid net sysctl key/, {
          container,
        });
    },
  },
  {
    title: "a key in two spellings is refused",
    source: `${tuningReadme}: duplicated sysctl keys`,
    reference: "takes the one that its map yields last",
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { container } = previous;
      const twice = { "net.core.somaxconn": "500", "net/core/somaxconn": "600" };
      await lab.refuse(tuningConfig(previous, { sysctl: twice }), /duplicated sysctl keys/, { container });
    },
  },
  {
    title: "mac, mtu, promisc and allmulti are set, and the result has the new MAC address",
    source: tuningReadme,
    async run(lab) {
      const { attachment } = await tuned(lab, { mac: newMac, mtu: 1400, promisc: true, allmulti: true });
      const link = await eth0(attachment);
      expectEqual([link.mac, link.mtu], [newMac, 1400], "MAC address and MTU");
      for (const flag of ["PROMISC", "ALLMULTI"]) expect(link.flags.includes(flag), `${flag} is not set`);
      expectEqual(attachment.inside().mac, newMac, "MAC address in the result");
    },
  },
  {
    title: "txQLen is set",
    source: `${tuningReadme}, txQLen`,
    reference: "unknown before 1.2.0",
    async run(lab) {
      const { attachment } = await tuned(lab, { txQLen: 77 });
      const shown = await attachment.container.namespace.shell("ip link show dev eth0");
      expect(/qlen 77\b/.test(shown), `the queue is otherwise: ${shown}`);
    },
  },
  {
    title: "the result has the new MTU",
    source: "SPEC 1.1.0, ADD: interfaces[].mtu",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const { attachment } = await tuned(lab, { cniVersion: "1.1.0", mtu: 1400 });
      const { interfaces } = attachment.result.json as { readonly interfaces?: readonly JsonObject[] };
      const inside = interfaces?.find(({ sandbox }) => sandbox !== undefined && sandbox !== "");
      expectEqual(inside?.["mtu"], 1400, "mtu in the result");
    },
  },
  {
    title: "args.cni.mac counts before runtimeConfig.mac, that before CNI_ARGS, that before mac",
    source: tuningReadme,
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { container } = previous;
      const mac = (last: number) => `02:00:00:00:00:0${last}`;
      const args = `MAC=${mac(2)};IgnoreUnknown=1`;
      const attach = async (extra: JsonObject) =>
        (await lab.attach(tuningConfig(previous, { mac: mac(1), ...extra }), container, { args })).inside()
          .mac;
      expectEqual(await attach({}), mac(2), "CNI_ARGS");
      expectEqual(await attach({ runtimeConfig: { mac: mac(3) } }), mac(3), "runtimeConfig");
      const all = { runtimeConfig: { mac: mac(3) }, args: { cni: { mac: mac(4) } } };
      expectEqual(await attach(all), mac(4), "args.cni");
    },
  },
  {
    title: "args.cni.sysctl works without sysctl",
    source: "plugins: assignment to entry in nil map",
    reference: "panics",
    async run(lab) {
      const { attachment } = await tuned(lab, { args: { cni: { sysctl: { "net.core.somaxconn": "500" } } } });
      expectEqual(await sysctl(attachment.container.namespace, "net/core/somaxconn"), "500", "somaxconn");
    },
  },
  {
    title: "DEL puts the interface back as it was",
    source: tuningReadme,
    async run(lab) {
      const { previous, attachment } = await tuned(lab, { mac: newMac, mtu: 1400, promisc: true });
      (await attachment.delWithResult()).expectSilence();
      const link = await eth0(attachment);
      expectEqual([link.mac, link.mtu], [previous.inside().mac, 1500], "MAC address and MTU");
      expect(!link.flags.includes("PROMISC"), "PROMISC is set");
    },
  },
  {
    title: "DEL puts sysctls back as they were",
    source: "SPEC 1.1.0, DEL",
    reference: "leaves them",
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { namespace } = previous.container;
      const before = await sysctl(namespace, "net/core/somaxconn");
      const config = tuningConfig(previous, { sysctl: { "net.core.somaxconn": "500" } });
      const attachment = await lab.attach(config, previous.container);
      (await attachment.delWithResult()).expectSilence();
      expectEqual(await sysctl(namespace, "net/core/somaxconn"), before, "somaxconn");
    },
  },
  {
    title: "an ADD that fails leaves interface and sysctls as they were",
    source: "SPEC 1.1.0, ADD",
    reference: "keeps what it has set so far",
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { namespace } = previous.container;
      const look = async () => [await sysctl(namespace, "net/core/somaxconn"), (await eth0(previous)).mac];
      const before = await look();
      const broken: readonly JsonObject[] = [
        { mac: newMac, mtu: 70_000, sysctl: { "net.core.somaxconn": "500" } },
        { mac: newMac, sysctl: { "net.core.somaxconn": "500", "net.core.nonsense": "1" } },
        { mac: newMac, sysctl: { "net.core.somaxconn": "500", "net.ipv4.ip_forward": "many" } },
      ];
      for (const extra of broken) {
        await lab.refuse(tuningConfig(previous, extra), /70000|nonsense|ip_forward|numerical|invalid/, {
          container: previous.container,
        });
        expectEqual(await look(), before, "somaxconn and MAC address");
      }
    },
  },
  {
    title: "CHECK is silent after ADD, and fails when something was changed",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      const { attachment } = await tuned(lab, { mtu: 1400, sysctl: { "net.core.somaxconn": "500" } });
      const { namespace } = attachment.container;
      (await attachment.check()).expectSilence();
      await namespace.shell("echo 600 > /proc/sys/net/core/somaxconn");
      (await attachment.check()).expectError({ names: /somaxconn/ });
      await namespace.shell("echo 500 > /proc/sys/net/core/somaxconn; ip link set eth0 mtu 1300");
      (await attachment.check()).expectError({ names: /mtu|MTU/ });
    },
  },
  {
    title: "CHECK knows numbers with blanks between them from numbers with tabs",
    source: "SPEC 1.1.0, CHECK",
    reference: "compares the text",
    async run(lab) {
      const { attachment } = await tuned(lab, { sysctl: { "net.ipv4.tcp_rmem": "4096 8192 16384" } });
      (await attachment.check()).expectSilence();
    },
  },
  {
    title: "DEL succeeds again, with an empty netns and with one that has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const { previous, attachment } = await tuned(lab, { mtu: 1400 });
      await attachment.container.namespace.remove();
      (await attachment.del()).expectSilence();
      (await attachment.del({ netns: "" })).expectSilence();
      (await previous.del({ netns: "" })).expectSilence();
    },
  },
  {
    title: "ADD without prevResult is refused",
    source: `${tuningReadme}: chained`,
    async run(lab) {
      await lab.refuse(plainConfig("tuning", { mtu: 1400 }), /prevResult/);
    },
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const { attachment } = await tuned(lab, { mtu: 1400 });
      const valid = [{ containerID: attachment.container.id, ifname: "eth0" }];
      const config = plainConfig("tuning", { cniVersion: "1.1.0", "cni.dev/valid-attachments": valid });
      (await lab.call("GC", config)).expectSilence();
      expectEqual((await eth0(attachment)).mtu, 1400, "MTU");
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
