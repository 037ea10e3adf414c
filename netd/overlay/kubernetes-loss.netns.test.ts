import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { netctlNamespace } from "#testing/kubernetes-server.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { type Feature, testWith } from "#testing/requires.ts";

const needs: readonly Feature[] = ["vxlan", "kube-apiserver"];
const hosts = [1, 2, 3];
const manifests = join(import.meta.dirname, "../../deploy/kubernetes");
/** Each container is in both; the second one knows each container's place by an entry of its own. */
const networks = ["web", "wide"];

let service: BuiltService;
let lab: ClusterLab;
/** By host, in the order of the networks. */
const addresses = new Map<number, readonly string[]>();

beforeAll(async () => {
  service = await buildService();
  lab = await ClusterLab.startWithKubernetes(service, 3);
  await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "-o", "names=cluster", "web");
  await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "-o", "mode=l2", "wide");
  for (const host of hosts) {
    await lab.until(`h${host} has the networks`, async () => {
      const listed = await lab.netctl(host, "network", "ls", "--json");
      return networks.every((name) => listed.includes(`"${name}"`));
    });
    const web = await lab.sandbox(host, `web${host}`, "web");
    addresses.set(host, [web, await lab.sandbox(host, `wide${host}`, "wide")]);
  }
});
afterAll(async () => {
  await lab.remove();
  service.remove();
});

const nextTo = (host: number) => (host % hosts.length) + 1;
const addressOf = (host: number, index: number) => addresses.get(host)?.[index] ?? "";

/** From each host to the next one in both networks, five a second. */
class Pings {
  readonly #children: readonly (readonly [ChildProcess, text: () => string])[];

  constructor() {
    this.#children = hosts.flatMap((host) =>
      networks.map((network, index) => {
        const netns = lab.path(host, "run", "netns", `${network}${host}`);
        const words = [`--net=${netns}`, "ping", "-i", "0.2", "-W", "1", addressOf(nextTo(host), index)];
        const child = spawn("nsenter", words, { stdio: ["ignore", "pipe", "ignore"] });
        let text = "";
        child.stdout.on("data", (piece: Buffer) => {
          text += piece.toString();
        });
        return [child, () => text] as const;
      }),
    );
  }

  /** The largest share of one of them that was not answered. */
  async stop(): Promise<number> {
    const shares = this.#children.map(async ([child, text]) => {
      const ended = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGINT");
      await ended;
      const found = /(\d+) packets transmitted, (\d+) received/.exec(text());
      const [sent, received] = [Number(found?.[1]), Number(found?.[2])];
      // The last one may be on its way.
      return Math.max(0, sent - received - 1) / sent;
    });
    return Math.max(...(await Promise.all(shares)));
  }
}

/** What leads to other hosts. */
const ways = (host: number) =>
  lab.host(host).run(`ip -o -d link show type vxlan | grep -o 'nv[0-9a-z]*: .* id [0-9]*' | cut -d: -f1
    ip route show proto 201; bridge fdb | grep dst; ip neigh show nud permanent`);

const status = async (host: number) =>
  await lab.netctl(host, "cluster", "status").catch((error: unknown) => String(error));
const kubectl = async (...words: readonly string[]) =>
  await lab.kubernetes.kubectl("-n", netctlNamespace, ...words);

async function untilAllSay(words: RegExp): Promise<void> {
  for (const host of hosts)
    await lab.until(`h${host} says ${words.source}`, async () => words.test(await status(host)));
}

async function untilAllAreWell(): Promise<void> {
  for (const host of hosts)
    await lab.until(`h${host} is well`, async () => /connected/.test(await status(host).then(onlyIfWell)));
}

/** A status that is right begins with the cluster, one that is not with an error. */
const onlyIfWell = (text: string) => (text.startsWith("cluster") ? text : "");

let next = 0;
/** A container that comes now is reached from the next host. */
async function untilNewAreReached(): Promise<void> {
  for (const host of hosts) {
    const name = `n${next++}`;
    const address = await lab.sandbox(host, name, "web");
    await lab.untilPings(nextTo(host), `web${nextTo(host)}`, address);
    await lab.netctl(host, "sandbox", "rm", name);
  }
}

interface Loss {
  readonly name: string;
  readonly happen: () => Promise<void>;
  /** What every host says of it, with the remedy. */
  readonly said: RegExp;
  /** What doctor says of it. */
  readonly finding: RegExp;
  /** That remedy. */
  readonly mend: () => Promise<void>;
}

const nothingThere = /the engine knows no cluster.*"netctl cluster adopt"/;
const adopt = async () => {
  expect(await lab.netctl(2, "cluster", "adopt")).toMatch(/^wrote \d+ entries/);
};
/** Everything in the namespace, as the controller of namespaces does it. */
async function deleteNamespace(): Promise<void> {
  await lab.kubernetes.kubectl("delete", "namespace", netctlNamespace, "--wait=false");
  const kinds = "entries,leases,rolebindings,roles,serviceaccounts,secrets";
  await kubectl("delete", kinds, "--all");
  const metadata = { name: netctlNamespace };
  const file = lab.path(1, "namespace.json");
  writeFileSync(
    file,
    JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata, spec: { finalizers: [] } }),
  );
  const path = `/api/v1/namespaces/${netctlNamespace}/finalize`;
  await lab.kubernetes.kubectl("replace", "--raw", path, "-f", file);
}
const losses: readonly Loss[] = [
  {
    name: "the custom resource definition is deleted",
    happen: async () => void (await kubectl("delete", "crd", "entries.netctl.io")),
    said: /does not serve entries of netctl.io; apply deploy\/kubernetes\/crd.yaml/,
    finding: /overlay-(problem|engine)/,
    async mend() {
      await lab.kubernetes.install();
      await untilAllSay(nothingThere);
      await adopt();
    },
  },
  {
    name: "all custom resources are deleted, one after the other",
    happen: async () => void (await kubectl("delete", "entries", "--all")),
    said: nothingThere,
    finding: /overlay-distrust.*netctl cluster adopt/s,
    mend: adopt,
  },
  {
    name: "a network's own is deleted, and others write on",
    async happen() {
      const { items } = JSON.parse(await kubectl("get", "entries", "-o", "json")) as {
        readonly items: readonly { metadata: { name: string }; spec: { key: string } }[];
      };
      const named = (part: string) =>
        items.filter(({ spec }) => spec.key.includes(part)).map(({ metadata }) => metadata.name);
      // Hosts write theirs again.
      await kubectl("delete", "entry", ...named("/net/web"), ...named("/host/"));
    },
    said: /network "web" is gone from the engine.*"netctl cluster adopt"|hosts are left in the engine/,
    finding: /overlay-distrust.*netctl cluster adopt/s,
    async mend() {
      await untilAllSay(/network "web" is gone from the engine/);
      await adopt();
    },
  },
  {
    name: "the rights are taken away",
    happen: async () => void (await kubectl("delete", "rolebinding", "netctl")),
    said: /forbidden.*; apply deploy\/kubernetes\/rbac.yaml/,
    finding: /forbidden.*rbac.yaml/,
    mend: async () => void (await lab.kubernetes.kubectl("apply", "-f", join(manifests, "rbac.yaml"))),
  },
  {
    name: "the namespace is deleted",
    happen: deleteNamespace,
    said: /Unauthorized; give this host another token/,
    finding: /Unauthorized; give this host another token/,
    async mend() {
      await lab.kubernetes.install();
      for (const host of hosts) writeFileSync(lab.tokenFile(host), await lab.kubernetes.token());
      await untilAllSay(nothingThere);
      await adopt();
    },
  },
  {
    name: "the API server is away for long",
    happen: async () => await lab.kubernetes.killServer(),
    said: /ECONNREFUSED/,
    finding: /ECONNREFUSED/,
    mend: async () => await lab.kubernetes.startServer(),
  },
  {
    name: "its etcd is restored from an old copy",
    async happen() {
      const restore = await lab.kubernetes.copy();
      await untilAllAreWell();
      // As much as nobody writes before the hosts look.
      for (let count = 0; count < 200; count++)
        await lab.kubernetes.etcdctl("put", "/elsewhere", String(count));
      const later = await lab.sandbox(3, "later", "wide");
      for (const host of [1, 2]) await lab.untilPings(host, `wide${host}`, later);
      await restore();
    },
    said: /it was restored from an old copy; "netctl cluster adopt"/,
    finding: /overlay-distrust.*netctl cluster adopt/s,
    async mend() {
      await adopt();
      await lab.netctl(3, "sandbox", "rm", "later");
    },
  },
];

describe("a cluster whose API server", () => {
  for (const { name, happen, said, finding, mend } of losses)
    testWith(needs, `loses what it had: ${name}`, async () => {
      for (const host of hosts)
        for (const [index, network] of networks.entries())
          await lab.untilPings(host, `${network}${host}`, addressOf(nextTo(host), index));
      const pings = new Pings();
      const before = hosts.map(ways);
      await happen();
      await untilAllSay(said);
      await lab.until("doctor says it", async () => {
        const told = await lab
          .netctl(1, "doctor", "overlay")
          .catch((error: { stdout: string }) => error.stdout);
        return finding.test(told);
      });
      await untilNewAreReached();
      await mend();
      await untilAllAreWell();
      await untilNewAreReached();
      await lab.until("nobody has forgotten a way", () => hosts.map(ways).join() === before.join());
      // None is lost on a usual machine; a busy one loses some by itself.
      expect(await pings.stop()).toBeLessThan(0.1);
    });
});
