import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Engine, Entry } from "#engine/engine.ts";
import { EtcdEngine } from "#engine/etcd/etcd.ts";
import { KubernetesEngine } from "#engine/kubernetes/kubernetes.ts";
import { formatCidr, overlaps, parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { TestEtcd } from "#testing/etcd.ts";
import { TestKubernetesApi } from "#testing/kubernetes-api.ts";
import { claimBlock, releaseBlock } from "./block.ts";
import { Cluster, type ClusterSpec, type NetworkSpec } from "./cluster.ts";
import { type HostRecord, readNetwork } from "./record.ts";
import { Session } from "./session.ts";

let engine: Engine;
let nextName = 0;

const spec: ClusterSpec = {
  udpPort: 4789,
  vniMin: 100,
  vniMax: 5000,
  pools: [
    { base: parseCidr("10.32.0.0/12"), size: 16, blockLength: 26 },
    { base: parseCidr("fd00:32::/32"), size: 64, blockLength: 112 },
  ],
};
async function freshCluster(): Promise<Cluster> {
  const cluster = new Cluster(engine, `c${nextName++}`);
  await cluster.open(spec);
  return cluster;
}
const network = (name: string, more: Partial<NetworkSpec> = {}): NetworkSpec => ({
  name,
  subnets: [],
  families: [4],
  internal: false,
  mode: "l3",
  names: "cluster",
  encrypted: false,
  ...more,
});
const host = (id: string, address: string): HostRecord => ({
  v: 1,
  id,
  name: id,
  underlay: { v4: parseIp(address) },
  mtu: 1500,
  state: "active",
});

const engines = [
  [
    "etcd",
    async () => {
      const etcd = await TestEtcd.start();
      const opened = new EtcdEngine({ endpoints: etcd.endpoints });
      return { engine: opened, stop: async () => await etcd.remove() };
    },
  ],
  [
    "the API server of Kubernetes",
    async () => {
      const api = await TestKubernetesApi.start();
      const opened = new KubernetesEngine({ server: api.url, namespace: "netctl" });
      return { engine: opened, stop: async () => await api.stop() };
    },
  ],
] as const;

describe.each(engines)("on %s", (_name, start) => {
  let stop: () => Promise<void>;
  beforeAll(async () => {
    ({ engine, stop } = await start());
  });
  afterAll(async () => {
    await engine.close();
    await stop();
  });

  describe("a cluster", () => {
    test("is founded once, by whoever is first, and all others join that one", async () => {
      const name = `c${nextName++}`;
      const opened = await Promise.all(
        Array.from({ length: 10 }, async () => await new Cluster(engine, name).open(spec)),
      );
      expect(new Set(opened.map((record) => record.uuid)).size).toBe(1);
      expect(opened[0]).toMatchObject({ udpPort: 4789, pools: spec.pools });
    });

    test("is another one after its engine was emptied: a host that was of the old one stays away", async () => {
      const cluster = await freshCluster();
      await expect(cluster.open(spec, "11111111-2222-3333-4444-555555555555")).rejects.toThrow(
        /another cluster/,
      );
      await expect(new Cluster(engine, "never").open(spec, "11111111")).rejects.toThrow(/no cluster/);
      // And nothing was founded by asking.
      expect((await engine.list("/netctl/v1/never/")).entries).toEqual([]);
    });
  });

  describe("networks", () => {
    test("thirty that are created at once get subnets and numbers of their own", async () => {
      const cluster = await freshCluster();
      const made = await Promise.all(
        Array.from(
          { length: 16 },
          async (_, index) => await cluster.createNetwork(network(`n${index}`, { families: [4, 6] })),
        ),
      );
      expect(new Set(made.map((one) => one.vni)).size).toBe(16);
      const subnets = made.flatMap((one) => one.subnets.map(({ cidr }) => cidr));
      expect(subnets).toHaveLength(32);
      for (const [index, a] of subnets.entries()) {
        for (const b of subnets.slice(index + 1))
          expect(overlaps(a, b), `${formatCidr(a)} ${formatCidr(b)}`).toBe(false);
      }
      await expect(cluster.createNetwork(network("one-more"))).rejects.toMatchObject({ fault: "exhausted" });
      // An IPv6 pool has room left; nothing of the one that failed is there.
      await cluster.createNetwork(network("six", { families: [6] }));
    });

    test("a name, a number or a subnet that is taken is refused with whose it is", async () => {
      const cluster = await freshCluster();
      await cluster.createNetwork(
        network("web", { vni: 777, subnets: [{ cidr: parseCidr("192.0.2.0/24") }] }),
      );
      await expect(cluster.createNetwork(network("web"))).rejects.toThrow('Network "web" already exists');
      await expect(cluster.createNetwork(network("other", { vni: 777 }))).rejects.toThrow(
        'VNI 777 is that of network "web"',
      );
      await expect(
        cluster.createNetwork(network("other", { subnets: [{ cidr: parseCidr("192.0.2.128/25") }] })),
      ).rejects.toThrow('Subnet 192.0.2.128/25 overlaps 192.0.2.0/24 of network "web"');
      expect((await cluster.networks()).map((one) => one.name)).toEqual(["web"]);
    });
  });

  describe("hosts and their blocks", () => {
    async function stored(cluster: Cluster, name: string) {
      const entry = (await engine.read(cluster.keys.network(name))) as Entry;
      return { entry, record: readNetwork(entry.key, entry.value) };
    }

    test("hosts that claim at once get each a block of their own, and no one gets one too many", async () => {
      const cluster = await freshCluster();
      const { subnets } = await cluster.createNetwork(
        network("small", { subnets: [{ cidr: parseCidr("192.0.2.0/24"), blockLength: 27 }] }),
      );
      const [subnet] = subnets;
      if (!subnet) throw new Error("no subnet");
      const small = await stored(cluster, "small");
      const outcomes = await Promise.allSettled(
        Array.from({ length: 12 }, async (_, index) => {
          const session = await Session.begin(
            engine,
            cluster.keys,
            host(`h${index}`, `203.0.113.${index + 1}`),
            `n${index}`,
          );
          const { fence } = session;
          const claim = {
            engine,
            keys: cluster.keys,
            hostId: `h${index}`,
            fence,
            network: small,
            taken: new Set<string>(),
          };
          return await claimBlock(claim, subnet);
        }),
      );
      const claimed = outcomes.flatMap((outcome) =>
        outcome.status === "fulfilled" ? [formatCidr(outcome.value.record.cidr)] : [],
      );
      expect(claimed).toHaveLength(8);
      expect(new Set(claimed).size).toBe(8);
      for (const outcome of outcomes)
        if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ fault: "exhausted" });
    });

    test("a network that is being removed gives out no block, and goes with the last one", async () => {
      const cluster = await freshCluster();
      const { subnets } = await cluster.createNetwork(network("web"));
      const [subnet] = subnets;
      if (!subnet) throw new Error("no subnet");
      const { fence } = await Session.begin(engine, cluster.keys, host("h1", "203.0.113.1"), "n1");
      const web = await stored(cluster, "web");
      const claim = { engine, keys: cluster.keys, hostId: "h1", fence, taken: new Set<string>() };
      const block = await claimBlock({ ...claim, network: web }, subnet);
      expect(await cluster.removeNetwork("web")).toEqual(["h1"]);
      await expect(claimBlock({ ...claim, network: web }, subnet)).rejects.toMatchObject({
        fault: "conflict",
      });
      const entry = (await engine.read(cluster.keys.block("web", block.record.cidr))) as Entry;
      expect(await releaseBlock(engine, fence, entry)).toBe(true);
      expect(await cluster.removeNetwork("web")).toEqual([]);
      expect(await cluster.networks()).toEqual([]);
      await expect(cluster.removeNetwork("web")).rejects.toThrow("No such network");
      // Its subnet and its number can be had again.
      await cluster.createNetwork(network("web", { vni: web.record.vni, subnets: [{ cidr: subnet.cidr }] }));
    });

    test("what a session sends after the next one has begun is refused", async () => {
      const cluster = await freshCluster();
      const { subnets } = await cluster.createNetwork(network("web"));
      const [subnet] = subnets;
      if (!subnet) throw new Error("no subnet");
      const web = await stored(cluster, "web");
      const old = await Session.begin(engine, cluster.keys, host("h1", "203.0.113.1"), "mine");
      const fresh = await Session.begin(engine, cluster.keys, host("h1", "203.0.113.1"), "mine");
      const claim = { engine, keys: cluster.keys, hostId: "h1", network: web, taken: new Set<string>() };
      await expect(claimBlock({ ...claim, fence: old.fence }, subnet)).rejects.toMatchObject({
        fault: "conflict",
      });
      await claimBlock({ ...claim, fence: fresh.fence }, subnet);
      // The old lease may end now: it no longer holds anything.
      await old.end();
      expect(await fresh.keepAlive()).toBe(true);
      expect(await engine.read(cluster.keys.live("h1"))).toBeDefined();
      await fresh.end();
      expect(await engine.read(cluster.keys.live("h1"))).toBeUndefined();
      // A host that is away keeps all that it has.
      expect((await engine.list(cluster.keys.blocks)).entries).toHaveLength(1);
      expect(await engine.read(cluster.keys.host("h1"))).toBeDefined();
    });

    test("a session of which something was deleted by hand has ended, and the next one writes it again", async () => {
      const cluster = await freshCluster();
      const { keys } = cluster;
      let session = await Session.begin(engine, keys, host("h1", "203.0.113.1"), "mine");
      for (const key of [keys.live("h1"), keys.host("h1"), keys.vtep(parseIp("203.0.113.1"))]) {
        expect(await session.keepAlive()).toBe(true);
        await engine.commit([{ kind: "clear", key }]);
        expect(await session.keepAlive()).toBe(false);
        session = await Session.begin(engine, keys, host("h1", "203.0.113.1"), "mine", session);
        expect(await engine.read(key)).toBeDefined();
      }
      expect(await session.keepAlive()).toBe(true);
    });

    test("a host that was removed has left, until it comes back, and those of long ago are forgotten", async () => {
      const cluster = await freshCluster();
      const { keys } = cluster;
      const long = { v: 1, atMs: Date.now() - 40 * 24 * 3_600_000 };
      await engine.commit([{ kind: "put", key: keys.left("h9"), value: JSON.stringify(long) }]);
      const session = await Session.begin(engine, keys, host("h1", "203.0.113.1"), "mine");
      await expect(cluster.removeHost("h1")).rejects.toThrow("Cannot remove host h1: it is live");
      const left = async () => (await engine.list(keys.lefts)).entries.map(({ key }) => key);
      expect(await left()).toEqual([keys.left("h9")]);
      await session.end();
      await cluster.removeHost("h1");
      expect(await left()).toEqual([keys.left("h1")]);
      expect(await engine.read(keys.host("h1"))).toBeUndefined();
      await Session.begin(engine, keys, host("h1", "203.0.113.1"), "mine");
      expect(await left()).toEqual([]);
    });

    test("two machines with one id, and two hosts with one address, are told apart", async () => {
      const cluster = await freshCluster();
      const first = await Session.begin(engine, cluster.keys, host("h1", "203.0.113.1"), "mine");
      // A disk that was copied has its secret as well.
      await expect(Session.begin(engine, cluster.keys, host("h1", "203.0.113.2"), "mine")).rejects.toThrow(
        "Another machine uses the host id h1, from 203.0.113.1",
      );
      await expect(Session.begin(engine, cluster.keys, host("h1", "203.0.113.2"), "cloned")).rejects.toThrow(
        "Another machine uses the host id h1",
      );
      await expect(Session.begin(engine, cluster.keys, host("h2", "203.0.113.1"), "other")).rejects.toThrow(
        "Address 203.0.113.1 is that of host h1",
      );
      expect(await engine.read(cluster.keys.live("h2"))).toBeUndefined();
      // An address that a host has left can be another's.
      await Session.begin(engine, cluster.keys, host("h1", "203.0.113.9"), "mine", first);
      await Session.begin(engine, cluster.keys, host("h2", "203.0.113.1"), "other");
    });
  });
});
