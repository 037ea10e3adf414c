import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { parseAllDocuments } from "yaml";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { netctlNamespace } from "#testing/kubernetes-server.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { type Feature, testWith } from "#testing/requires.ts";

/** `npm run test:kubernetes-api` runs all of them, for minutes; the tests run a few. */
const runsAll = process.env["NETCTL_KUBERNETES_TESTS"] === "all";
const needs: readonly Feature[] = ["vxlan", "kube-apiserver"];
const hosts = [1, 2, 3];
const manifests = join(import.meta.dirname, "../../deploy/kubernetes");

let service: BuiltService;
let lab: ClusterLab;
const addresses: string[] = [];

beforeAll(async () => {
  service = await buildService();
  lab = await ClusterLab.startWithKubernetes(service, 3);
  await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "-o", "names=cluster", "web");
  for (const host of hosts) {
    await lab.until(`h${host} has the network`, async () =>
      (await lab.netctl(host, "network", "ls", "--json")).includes('"web"'),
    );
    addresses.push(await lab.sandbox(host, `s${host}`, "web"));
  }
});
afterAll(async () => {
  await lab.remove();
  service.remove();
});

/** Each reaches the next one, by address. */
async function untilAllReach(): Promise<void> {
  for (const host of hosts) await lab.untilPings(host, `s${host}`, addresses[host % hosts.length] ?? "");
}

interface ListedHost {
  readonly id: string;
  readonly name: string;
  readonly isLive: boolean;
  readonly blocks: readonly string[];
}

const listHosts = async (host = 1) =>
  JSON.parse(await lab.netctl(host, "cluster", "host", "ls", "--json")) as readonly ListedHost[];

const hostIsLive = async (name: string) =>
  (await listHosts().catch(() => [])).find((each) => each.name === name)?.isLive === true;

async function untilLive(): Promise<void> {
  for (const host of hosts) await lab.until(`h${host} is live`, () => hostIsLive(`h${host}`));
}

/** Containers come and go on every host. */
const churn = async (rounds: number) => await lab.churn(rounds, "web", hosts);

/** A container that comes now is reached from the other hosts, by its name. */
async function untilNewIsReached(): Promise<void> {
  const name = `n${randomBytes(3).toString("hex")}`;
  const address = await lab.sandbox(2, name, "web");
  for (const host of [1, 3]) {
    await lab.until(`h${host} knows ${name}`, () => lookUp(host, name) === address);
    await lab.untilPings(host, `s${host}`, address);
  }
  await lab.netctl(2, "sandbox", "rm", name);
  await lab.until(`${name} is forgotten`, () => lookUp(1, name) === "");
}

function lookUp(host: number, name: string): string {
  const netns = lab.path(host, "run", "netns", `s${host}`);
  return lab.host(host).run(`nsenter --net=${netns} dig +short +tries=1 +time=5 @127.0.0.11 ${name}`).trim();
}

/** The objects whose keys begin so, as an administrator sees them: name by key. */
async function objects(prefix: string): Promise<ReadonlyMap<string, string>> {
  const list = JSON.parse(
    await lab.kubernetes.kubectl("-n", netctlNamespace, "get", "entries", "-o", "json"),
  ) as {
    readonly items: readonly {
      readonly metadata: { readonly name: string };
      readonly spec: { readonly key: string };
    }[];
  };
  const all = list.items.map(({ metadata, spec }) => [
    spec.key.replace("/netctl/v1/default/", ""),
    metadata.name,
  ]);
  return new Map(all.filter(([key = ""]) => key.startsWith(prefix)) as [string, string][]);
}

async function deleteObject(key: string): Promise<void> {
  const name = (await objects(key)).get(key);
  if (name === undefined) throw new Error(`There is no ${key}`);
  await lab.kubernetes.kubectl("-n", netctlNamespace, "delete", "entry", name);
}

/** Pings from one container to another, five a second, through all that happens. */
class Pings {
  readonly #child: ChildProcess;
  #text = "";

  constructor() {
    const netns = lab.path(1, "run", "netns", "s1");
    const words = ["-i", "0.2", "-W", "1", addresses[1] ?? ""];
    this.#child = spawn("nsenter", [`--net=${netns}`, "ping", ...words], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.on("data", (piece: Buffer) => {
      this.#text += piece.toString();
    });
  }

  /** The share that was not answered. */
  async stop(): Promise<number> {
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.kill("SIGINT");
    await ended;
    const found = /(\d+) packets transmitted, (\d+) received/.exec(this.#text);
    const [sent, received] = [Number(found?.[1]), Number(found?.[2])];
    // The last one may be on its way.
    return Math.max(0, sent - received - 1) / sent;
  }
}

describe("an overlay network whose engine is a real API server", () => {
  testWith(needs, "joins containers of three hosts, by address and by name", async () => {
    await untilAllReach();
    await lab.until("h1 knows s3", () => lookUp(1, "s3") === addresses[2]);
    await untilNewIsReached();
  });

  testWith(
    needs,
    "goes on while the API server is killed and started again, with containers coming",
    async () => {
      const pings = new Pings();
      const coming = churn(6);
      await lab.kubernetes.killServer();
      await coming;
      await lab.kubernetes.startServer();
      await untilLive();
      await untilNewIsReached();
      // None is lost on a usual machine; a busy one loses some by itself.
      expect(await pings.stop()).toBeLessThan(0.5);
      await untilAllReach();
    },
  );

  testWith(needs, "a host that was stopped over a compaction and a restart lists again", async () => {
    lab.signalNetd(3, "SIGSTOP");
    const address = await lab.sandbox(1, "late", "web");
    await lab.kubernetes.compact();
    await lab.kubernetes.killServer();
    await lab.kubernetes.startServer();
    await churn(0);
    lab.signalNetd(3, "SIGCONT");
    await lab.until("h3 knows late", () => lookUp(3, "late") === address);
    await lab.untilPings(3, "s3", address);
    await lab.netctl(1, "sandbox", "rm", "late");
  });

  testWith(needs, "what an administrator deletes of a host is written again", async () => {
    const [first] = await listHosts();
    if (!first) throw new Error("there is no host");
    const [block = ""] = [...(await objects("block/web/")).keys()];
    for (const key of [`live/${first.id}`, `host/${first.id}`, block]) {
      await deleteObject(key);
      await lab.until(`${key} is back`, async () => (await objects(key)).size === 1);
    }
    await untilLive();
    await untilAllReach();
    await untilNewIsReached();
  });

  testWith(needs, "a host whose token no longer counts says so, and goes on with the next one", async () => {
    await lab.kubernetes.kubectl("-n", netctlNamespace, "create", "secret", "generic", "bound");
    writeFileSync(lab.tokenFile(2), await lab.kubernetes.token("bound"));
    await lab.kubernetes.kubectl("-n", netctlNamespace, "delete", "secret", "bound");
    await lab.until("h2 says so", async () =>
      /Unauthorized/.test(await lab.netctl(2, "cluster", "status").catch(String)),
    );
    await lab.untilPings(1, "s1", addresses[1] ?? "");
    writeFileSync(lab.tokenFile(2), await lab.kubernetes.token());
    await untilNewIsReached();
    await lab.until(
      "h2 has nothing to say",
      async () => !/Unauthorized/.test(await lab.netctl(2, "cluster", "status").catch(String)),
    );
  });

  // Two and a half minutes.
  if (runsAll)
    testWith(needs, "a host that is dead for long is no longer live, and keeps its addresses", async () => {
      const before = (await listHosts()).find(({ name }) => name === "h3");
      await lab.killNetd(3);
      for (let look = 0; look < 8 && (await hostIsLive("h3")); look++)
        await lab.until("h3 has gone", async () => !(await hostIsLive("h3"))).catch(() => undefined);
      const after = (await listHosts()).find(({ name }) => name === "h3");
      expect(after).toEqual({ ...before, isLive: false });
      await lab.untilPings(1, "s1", addresses[2] ?? "");
      lab.startNetd(3);
      await untilLive();
      await untilAllReach();
    });
});

describe("a real API server", () => {
  testWith(needs, "takes all manifests as they are", async () => {
    for (const file of ["crd.yaml", "rbac.yaml", "daemonset.yaml"])
      await lab.kubernetes.kubectl("apply", "--dry-run=server", "-f", join(manifests, file));
    // A pod of the DaemonSet, but for the token: no controller has made one.
    const [daemonSet] = parseAllDocuments(readFileSync(join(manifests, "daemonset.yaml"), "utf8")).map(
      (each) => each.toJS() as { readonly spec: { readonly template: { readonly spec: object } } },
    );
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "netctl-1", namespace: netctlNamespace },
      spec: { ...daemonSet?.spec.template.spec, automountServiceAccountToken: false },
    };
    const file = lab.path(1, "pod.json");
    writeFileSync(file, JSON.stringify(pod));
    await lab.kubernetes.kubectl("create", "--dry-run=server", "-f", file);
  });

  testWith(needs, "drops nothing of what the engine writes", async () => {
    const text = await lab.kubernetes.kubectl("-n", netctlNamespace, "get", "entries", "-o", "json");
    const { items } = JSON.parse(text) as { readonly items: readonly object[] };
    expect(items.length).toBeGreaterThan(0);
    for (const item of items)
      expect(item).toMatchObject({
        metadata: { annotations: { "netctl.io/write": expect.any(String) } },
        spec: { key: expect.stringMatching(/^\/netctl\/v1\/default\//), value: expect.any(String) },
      });
  });
});
