import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { list, readLinks } from "#conformance/witness.ts";

const bandwidthReadme = "bandwidth README";

const rates = {
  ingressRate: 8_000_000,
  ingressBurst: 800_000,
  egressRate: 16_000_000,
  egressBurst: 1_600_000,
};

function bandwidthConfig(previous: Attachment, extra: JsonObject): JsonObject {
  return plainConfig("bandwidth", { prevResult: previous.result.json, ...extra });
}

async function limited(
  lab: Lab,
  extra: JsonObject,
): Promise<{ previous: Attachment; attachment: Attachment }> {
  const previous = await lab.attach(bridgeConfig(lab), await lab.container());
  return { previous, attachment: await lab.attach(bandwidthConfig(previous, extra), previous.container) };
}

interface Shaped {
  readonly kind: string;
  /** Bytes a second. */
  readonly rate: number;
  readonly burst: number;
}

async function rootQdisc(lab: Lab, dev: string): Promise<Shaped | undefined> {
  const qdiscs = JSON.parse(await lab.host.shell(`tc -j qdisc show dev ${dev}`)) as readonly {
    readonly kind: string;
    readonly root?: boolean;
    readonly options: { readonly rate?: number; readonly burst?: number };
  }[];
  const found = qdiscs.find(({ root }) => root);
  return found && { kind: found.kind, rate: found.options.rate ?? 0, burst: found.options.burst ?? 0 };
}

async function ifbs(lab: Lab): Promise<readonly string[]> {
  return (await readLinks(lab.host)).filter(({ kind }) => kind === "ifb").map(({ name }) => name);
}

export const bandwidthCases: readonly Case[] = [
  {
    title: "what goes to the container passes a token bucket at the host's end of its pair",
    source: bandwidthReadme,
    async run(lab) {
      const { previous } = await limited(lab, { ingressRate: 8_000_000, ingressBurst: 800_000 });
      const shown = await rootQdisc(lab, previous.hostSide().name);
      expectEqual([shown?.kind, shown?.rate, shown?.burst], ["tbf", 1_000_000, 100_000], "root qdisc");
      expectEqual(await ifbs(lab), [], "links of kind ifb");
    },
  },
  {
    title: "what comes from the container is led through a link of kind ifb, which the result has",
    source: bandwidthReadme,
    needs: ["ifb"],
    async run(lab) {
      const { previous, attachment } = await limited(lab, rates);
      const host = previous.hostSide().name;
      const [ifb = "", ...rest] = await ifbs(lab);
      expectEqual(rest, [], "further links of kind ifb");
      expect(/^bwp[0-9a-f]{12}$/.test(ifb), `the link is called ${ifb}`);
      expectEqual(attachment.result.interfaces.at(-1)?.name, ifb, "last interface of the result");
      const shown = await rootQdisc(lab, ifb);
      expectEqual([shown?.kind, shown?.rate, shown?.burst], ["tbf", 2_000_000, 200_000], "its root qdisc");
      const filters = await lab.host.shell(`tc filter show dev ${host} ingress`);
      expect(filters.includes(`mirred (Egress Redirect to device ${ifb})`), `filters of ${host}: ${filters}`);
    },
  },
  {
    title: "rates come from runtimeConfig.bandwidth, unless the configuration has some",
    source: `${bandwidthReadme}; CONVENTIONS: bandwidth`,
    async run(lab) {
      const runtimeConfig = { bandwidth: { ingressRate: 16_000_000, ingressBurst: 800_000 } };
      const capabilities = { bandwidth: true };
      const { previous } = await limited(lab, { capabilities, runtimeConfig });
      expectEqual((await rootQdisc(lab, previous.hostSide().name))?.rate, 2_000_000, "rate");
      const own = await limited(lab, {
        capabilities,
        runtimeConfig,
        ingressRate: 8_000_000,
        ingressBurst: 800_000,
      });
      expectEqual((await rootQdisc(lab, own.previous.hostSide().name))?.rate, 1_000_000, "rate");
    },
  },
  {
    title: "without rates the result is handed on, and nothing is made",
    source: bandwidthReadme,
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      await lab.unchanged(async () => {
        const { result } = await lab.attach(bandwidthConfig(previous, {}), previous.container);
        expectEqual(result.interfaces.length, previous.result.interfaces.length, "interfaces");
      });
    },
  },
  {
    title: "a rate without a burst is refused, and a burst without a rate",
    source: bandwidthReadme,
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { container } = previous;
      const broken: readonly [JsonObject, RegExp][] = [
        [{ ingressRate: 8000 }, /if rate is set, burst must also be set/],
        [{ egressBurst: 8000 }, /if burst is set, rate must also be set/],
        [{ ingressRate: 8000, ingressBurst: 2 ** 36 }, /burst cannot be more than 4GB/],
      ];
      for (const [extra, names] of broken)
        await lab.refuse(bandwidthConfig(previous, extra), names, { container });
    },
  },
  {
    title: "ADD without prevResult is refused",
    source: `${bandwidthReadme}: chained`,
    async run(lab) {
      await lab.refuse(plainConfig("bandwidth", rates), /chained/);
    },
  },
  {
    title: "a repeated ADD succeeds, and takes the new rate",
    source: "plugins#921",
    reference: "fails, since the qdisc is there",
    needs: ["ifb"],
    async run(lab) {
      const { previous } = await limited(lab, rates);
      await lab.attach(bandwidthConfig(previous, { ...rates, ingressRate: 16_000_000 }), previous.container);
      expectEqual((await rootQdisc(lab, previous.hostSide().name))?.rate, 2_000_000, "rate");
      expectEqual((await ifbs(lab)).length, 1, "links of kind ifb");
    },
  },
  {
    title: "two interfaces of one container in one network are limited apart",
    source: "SPEC 1.1.0: an attachment is container, network and interface",
    reference: "calls the links of both the same",
    needs: ["ifb"],
    async run(lab) {
      const container = await lab.container();
      const first = await lab.attach(bridgeConfig(lab), container);
      const second = await lab.attach(bridgeConfig(lab), container, { ifName: "eth1" });
      const limit = await lab.attach(bandwidthConfig(first, rates), container);
      await lab.attach(bandwidthConfig(second, rates), container, { ifName: "eth1" });
      expectEqual((await ifbs(lab)).length, 2, "links of kind ifb");
      (await limit.delWithResult()).expectSilence();
      expectEqual((await ifbs(lab)).length, 1, "links of kind ifb");
    },
  },
  {
    title: "an interface that is no veth is limited, too",
    source: "plugins#656",
    reference: "knows veth alone",
    needs: ["ifb", "macvlan"],
    async run(lab) {
      const container = await lab.container();
      await lab.host.ip(`link add up0 type veth peer name down0`);
      await lab.host.ip(`link add link up0 name eth0 netns ${container.namespace.name} type macvlan`);
      await container.namespace.ip("link set eth0 up");
      await lab.rebase();
      const interfaces = [{ name: "eth0", sandbox: container.namespace.path }];
      const prevResult = { cniVersion: "1.0.0", interfaces, ips: [] };
      const attachment = await lab.attach(plainConfig("bandwidth", { ...rates, prevResult }), container);
      const shown = list(JSON.parse(await container.namespace.shell("tc -j qdisc show")));
      const kinds = shown.map((each) => (each as JsonObject)["kind"]);
      expectEqual(kinds.filter((kind) => kind === "tbf").length, 2, "token buckets in the container");
      (await attachment.delWithResult()).expectSilence();
      expectEqual(await container.namespace.shell("tc qdisc show | grep tbf || true"), "", "token buckets");
      await container.namespace.ip("link del eth0");
    },
  },
  {
    title: "traffic with unshapedSubnets is not limited, with shapedSubnets alone that",
    source: "plugins#857",
    reference: "knows no subnets",
    needs: ["ifb", "htb"],
    async run(lab) {
      const { previous, attachment } = await limited(lab, { ...rates, unshapedSubnets: ["192.0.2.0/24"] });
      const host = previous.hostSide().name;
      const filters = await lab.host.shell(
        `tc -p filter show dev ${host}; tc -p filter show dev ${host} ingress`,
      );
      expect(/match IP src 192\.0\.2\.0\/24/.test(filters), `to the container: ${filters}`);
      expect(/match IP dst 192\.0\.2\.0\/24/.test(filters), `from the container: ${filters}`);
      (await attachment.check()).expectSilence();
      const both = { ...rates, unshapedSubnets: ["192.0.2.0/24"], shapedSubnets: ["192.0.2.0/24"] };
      const reply = await lab.call("ADD", bandwidthConfig(previous, both), { container: previous.container });
      reply.expectError({ names: /unshapedSubnets and shapedSubnets/ });
    },
  },
  {
    title: "subnets of the configuration hold for the rates of runtimeConfig.bandwidth",
    source: `${bandwidthReadme}; CONVENTIONS: bandwidth`,
    reference: "knows no subnets",
    needs: ["htb"],
    async run(lab) {
      const { previous } = await limited(lab, {
        capabilities: { bandwidth: true },
        runtimeConfig: { bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000 } },
        unshapedSubnets: ["192.0.2.0/24"],
      });
      const host = previous.hostSide().name;
      const shown = await lab.host.shell(`tc class show dev ${host}; tc -p filter show dev ${host}`);
      expect(/class htb .* rate 8Mbit /.test(shown), `classes of ${host}: ${shown}`);
      expect(/match IP src 192\.0\.2\.0\/24/.test(shown), `filters of ${host}: ${shown}`);
    },
  },
  {
    title: "CHECK is silent after ADD, and fails when the limit was changed",
    source: "SPEC 1.1.0, CHECK",
    needs: ["ifb"],
    async run(lab) {
      const { previous, attachment } = await limited(lab, rates);
      const host = previous.hostSide().name;
      (await attachment.check()).expectSilence();
      await lab.host.shell(`tc qdisc change dev ${host} root tbf rate 1mbit burst 100000 limit 125000`);
      (await attachment.check()).expectError({});
    },
  },
  {
    title: "DEL removes the link, with empty netns and without prevResult, and may be repeated",
    source: "SPEC 1.1.0, DEL",
    needs: ["ifb"],
    async run(lab) {
      const { attachment } = await limited(lab, rates);
      const { prevResult: _, ...config } = attachment.config;
      for (let times = 0; times < 3; times += 1)
        (await attachment.del({ netns: "", config })).expectSilence();
      expectEqual(await ifbs(lab), [], "links of kind ifb");
    },
  },
  {
    title: "DEL takes the limits off an interface that stays",
    source: "SPEC 1.1.0, DEL",
    reference: "leaves the qdiscs",
    needs: ["ifb"],
    async run(lab) {
      const { previous, attachment } = await limited(lab, rates);
      const host = previous.hostSide().name;
      (await attachment.delWithResult()).expectSilence();
      const shown = await lab.host.shell(`tc qdisc show dev ${host}`);
      expect(!/tbf|ingress/.test(shown), `qdiscs of ${host}: ${shown}`);
    },
  },
  {
    title: "GC removes the links of attachments that are not valid, and no others; STATUS is silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    needs: ["ifb"],
    async run(lab) {
      const stale = await limited(lab, rates);
      const valid = await limited(lab, rates);
      const attachments = [{ containerID: valid.attachment.container.id, ifname: "eth0" }];
      const config = plainConfig("bandwidth", {
        cniVersion: "1.1.0",
        "cni.dev/valid-attachments": attachments,
      });
      (await lab.call("GC", config)).expectSilence();
      stale.attachment.forget();
      expectEqual(await ifbs(lab), [valid.attachment.result.interfaces.at(-1)?.name], "links of kind ifb");
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
