import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, hostLocal } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { code, type Reply } from "#conformance/reply.ts";
import { ping } from "#conformance/traffic.ts";
import { readLink, readRuleset } from "#conformance/witness.ts";

const noGc = "GC does nothing; unknown to v1.1.1";
const noStatus = "STATUS is forwarded to an IPAM that has none; unknown to v1.1.1";

function network(lab: Lab, extra: JsonObject = {}): JsonObject {
  return bridgeConfig(lab, { cniVersion: "1.1.0", isGateway: true, ipMasq: true, ...extra });
}

function listed(attachments: readonly Attachment[]): readonly JsonObject[] {
  return attachments.map(({ container, ifName }) => ({ containerID: container.id, ifname: ifName }));
}

/** GC with a list of what is still valid; absent if undefined. */
function collect(
  lab: Lab,
  config: JsonObject,
  valid: readonly Attachment[] | undefined,
  key = "cni.dev/valid-attachments",
): Promise<Reply> {
  return lab.call("GC", valid === undefined ? config : { ...config, [key]: listed(valid) });
}

async function leases(lab: Lab, name = "net-a"): Promise<readonly string[]> {
  const shown = await lab.host.shell(`ls ${lab.dataDir}/${name} 2>/dev/null || true`);
  return shown.split("\n").filter((file) => /^[\d.]+$/.test(file) && file.includes("."));
}

async function expectGone(attachment: Attachment): Promise<void> {
  const { lab } = attachment;
  expect((await readLink(lab.host, attachment.hostSide().name)) === undefined, "the stale host side stays");
  expect(!(await leases(lab)).includes(attachment.ip()), `the stale lease ${attachment.ip()} stays`);
  expect(
    !(await readRuleset(lab.host)).includes(`${attachment.ip()} `),
    `a rule for the stale ${attachment.ip()} stays`,
  );
}

async function expectWorking(attachment: Attachment): Promise<void> {
  expect(
    await ping(attachment.container.namespace, "10.77.0.1"),
    "a valid container does not reach its gateway after GC",
  );
  expect(
    (await leases(attachment.lab)).includes(attachment.ip()),
    `the valid lease ${attachment.ip()} is gone`,
  );
  (await attachment.check()).expectSilence();
}

export const collectionCases: readonly Case[] = [
  ...["cni.dev/valid-attachments", "cni.dev/attachments"].map(
    (key): Case => ({
      title: `GC removes what is not in ${key} and keeps what is`,
      source:
        key === "cni.dev/attachments" ? "libcni, GCNetworkList: legacy key (cni#1101)" : "SPEC 1.1.0, GC",
      reference: noGc,
      needs: ["nftables masquerade"],
      async run(lab) {
        const config = network(lab);
        const kept = await lab.attach(config, await lab.container());
        const stale = await lab.attach(config, await lab.container());
        await stale.container.namespace.remove();
        (await collect(lab, config, [kept], key)).expectSilence();
        await expectGone(stale);
        await expectWorking(kept);
        stale.forget();
      },
    }),
  ),
  {
    title: "GC with an empty list removes every attachment of the network",
    source: "SPEC 1.1.0, GC",
    reference: noGc,
    async run(lab) {
      const config = network(lab);
      const attachments = [
        await lab.attach(config, await lab.container()),
        await lab.attach(config, await lab.container()),
      ];
      (await collect(lab, config, [])).expectSilence();
      for (const attachment of attachments) {
        await expectGone(attachment);
        attachment.forget();
      }
    },
  },
  {
    title: "GC without a list removes nothing",
    source: "libcni, GCNetworkList: no list is no knowledge",
    reference: noGc,
    async run(lab) {
      const config = network(lab);
      const attachment = await lab.attach(config, await lab.container());
      (await collect(lab, config, undefined)).expectSilence();
      await expectWorking(attachment);
    },
  },
  {
    title: "GC tells two interfaces of one container apart",
    source: "SPEC 1.1.0, GC: containerID and ifname",
    reference: noGc,
    async run(lab) {
      const config = network(lab);
      const container = await lab.container();
      const kept = await lab.attach(config, container);
      const stale = await lab.attach(config, container, { ifName: "eth1" });
      (await collect(lab, config, [kept])).expectSilence();
      await expectGone(stale);
      await expectWorking(kept);
      stale.forget();
    },
  },
  {
    title: "GC leaves other networks alone, on the same directory and the same bridge",
    source: "SPEC 1.1.0, GC: of this network",
    reference: noGc,
    async run(lab) {
      const config = network(lab);
      const stale = await lab.attach(config, await lab.container());
      const other = await lab.attach(
        { ...config, name: "net-b", ipam: hostLocal(lab, { rangeStart: "10.77.0.100" }) },
        await lab.container(),
      );
      (await collect(lab, config, [])).expectSilence();
      await expectGone(stale);
      stale.forget();
      expect(
        await ping(other.container.namespace, "10.77.0.1"),
        "the other network's container does not reach its gateway",
      );
      expectEqual(await leases(lab, "net-b"), [other.ip()], "leases of the other network");
    },
  },
  {
    title: "GC twice is as good as once, and GC of a new network does nothing",
    source: "SPEC 1.1.0, GC",
    reference: noGc,
    async run(lab) {
      await lab.unchanged(async () => {
        (await collect(lab, network(lab), [])).expectSilence();
      });
      const config = network(lab);
      const stale = await lab.attach(config, await lab.container());
      await stale.container.namespace.remove();
      (await collect(lab, config, [])).expectSilence();
      (await collect(lab, config, [])).expectSilence();
      stale.forget();
    },
  },
  {
    title: "GC needs neither CNI_CONTAINERID, CNI_NETNS nor CNI_IFNAME; a list of another type is refused",
    source: "SPEC 1.1.0, GC: environment",
    reference: noGc,
    async run(lab) {
      (await lab.call("GC", network(lab, { "cni.dev/valid-attachments": [] }))).expectSilence();
      (await lab.call("GC", network(lab, { "cni.dev/valid-attachments": "all" }))).expectError();
    },
  },
  {
    title: "DEL of what GC has removed succeeds",
    source: "SPEC 1.1.0, DEL: missing resources",
    reference: noGc,
    async run(lab) {
      const config = network(lab);
      const attachment = await lab.attach(config, await lab.container());
      (await collect(lab, config, [])).expectSilence();
      (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "STATUS is silent where ADD can be served, and needs no container",
    source: "SPEC 1.1.0, STATUS",
    reference: noStatus,
    async run(lab) {
      await lab.unchanged(async () => {
        (await lab.call("STATUS", network(lab))).expectSilence();
      });
    },
  },
  {
    title: "STATUS says 50 where the pool is exhausted, and nothing again after a DEL",
    source: "SPEC 1.1.0, STATUS: code 50",
    reference: noStatus,
    async run(lab) {
      const config = network(lab, {
        ipam: hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.8" }),
      });
      const first = await lab.attach(config, await lab.container());
      (await lab.call("STATUS", config)).expectSilence();
      await lab.attach(config, await lab.container());
      (await lab.call("STATUS", config)).expectError({ code: code.notAvailable });
      (await first.delWithResult()).expectSilence();
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
  {
    title: "STATUS names an IPAM that is not there",
    source: "SPEC 1.1.0, STATUS",
    reference: noStatus,
    async run(lab) {
      (await lab.call("STATUS", network(lab, { ipam: { type: "no-such-ipam" } }))).expectError({
        names: /no-such-ipam/,
      });
    },
  },
  {
    title: "STATUS refuses a configuration that ADD would refuse",
    source: "SPEC 1.1.0, STATUS; Error: code 7",
    reference: noStatus,
    async run(lab) {
      (await lab.call("STATUS", network(lab, { hairpinMode: true, promiscMode: true }))).expectError({
        names: /hairpin/i,
      });
    },
  },
  {
    title: "other verbs work while STATUS fails",
    source: "SPEC 1.1.0, STATUS: purely informational",
    reference: noStatus,
    async run(lab) {
      const config = network(lab, {
        ipam: hostLocal(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" }),
      });
      const attachment = await lab.attach(config, await lab.container());
      (await lab.call("STATUS", config)).expectError({ code: code.notAvailable });
      (await attachment.check()).expectSilence();
      (await attachment.delWithResult()).expectSilence();
    },
  },
];
