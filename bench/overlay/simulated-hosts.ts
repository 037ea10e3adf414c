import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Step } from "#engine/engine.ts";
import { EtcdEngine } from "#engine/etcd/etcd.ts";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { readAllRoutes } from "#kernel/route.ts";
import { lineLog } from "#machine/log.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { firstIp, parseCidr } from "#net/cidr.ts";
import { addToIp, parseIp } from "#net/ip.ts";
import { Nftables } from "#nftables/nftables.ts";
import { OverlayAgent } from "#overlay/agent.ts";
import { Cluster } from "#overlay/cluster.ts";
import type { HostSettings } from "#overlay/host-settings.ts";
import type { LocalNames, NameExchange } from "#overlay/name-exchange.ts";
import { formatRecord } from "#overlay/record.ts";
import { readSelf } from "#overlay/self.ts";

/**
 * Agents of many hosts in one process, each with a network namespace of its own, and an etcd. Prints what they cost as
 * JSON: simulated-hosts.js URL DIRECTORY NAMES NAMESPACE… Run in a namespace whose loopback has nothing but their talk.
 */
const [url = "", directory = "", namesText = "", ...namespaces] = process.argv.slice(2);
const names = Number(namesText);
/** All hosts share one thread here: what would be no time on a host of its own is seconds. */
const etcd = { endpoints: [url], requestTimeoutMs: 120_000, connectTimeoutMs: 120_000 };
const log = lineLog([{ level: "warn", write: (line) => process.stderr.write(line) }]);
const engine = new EtcdEngine(etcd);
const cluster = new Cluster(engine, "lab");
const { uuid } = await cluster.open({
  udpPort: 4789,
  vniMin: 4096,
  vniMax: 0xffffff,
  pools: [{ base: parseCidr("10.128.0.0/10"), size: 16, blockLength: 26 }],
});

const hosts = namespaces.map((namespace, index) => ({
  path: `/run/netns/${namespace}`,
  namespace: NetworkNamespace.open(`/run/netns/${namespace}`),
  directory: join(directory, `h${index}`),
  settings: {
    v: 1,
    cluster: "lab",
    uuid,
    hostId: index.toString(16).padStart(16, "0"),
    nonce: `nonce${index}`,
    name: `h${index}`,
    engine: { kind: "etcd", endpoints: [url] },
    underlay: { v4: underlayOf(index) },
  } satisfies HostSettings,
  exchange: exchangeOf(index),
}));

function underlayOf(index: number): string {
  return `10.77.${index >> 8}.${index & 255}`;
}

/** Containers of the host, named as those of a service are. */
function exchangeOf(index: number): NameExchange {
  const local = Array.from({ length: names }, (_, at): LocalNames => {
    const containerId = `${index.toString(16).padStart(6, "0")}${at.toString(16).padStart(58, "0")}`;
    return {
      containerId,
      ifName: "eth0",
      names: [`c${index}-${at}`, containerId.slice(0, 12)],
      addresses: [`10.128.${index & 255}.${at + 2}/26`],
    };
  });
  return {
    begin: () => undefined,
    local: (network) => (network === "web" ? local : []),
    change: () => Promise.resolve(),
    onChange: () => () => undefined,
  };
}

const startAgent = ({ path, namespace, directory: own, settings, exchange }: (typeof hosts)[number]) => {
  mkdirSync(join(own, "conf"), { recursive: true });
  const agent = new OverlayAgent({
    settings,
    engine: new EtcdEngine(etcd),
    namespace,
    directory: join(own, "overlay"),
    nftables: new Nftables({ namespacePath: path }),
    confDirectory: join(own, "conf"),
    names: exchange,
    log,
    endpoints: () => [],
    adopt: () => Promise.resolve(),
  });
  agent.start();
  return agent;
};

/** Bytes that came by the loopback: each that anybody here was told, once. */
function bytes(): number {
  const line = readFileSync("/proc/net/dev", "utf8")
    .split("\n")
    .find((each) => each.includes("lo:"));
  return Number(line?.split(":")[1]?.trim().split(/\s+/)[0]);
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 170_000;
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error(`Waited in vain until ${what}`);
    await sleep(100);
  }
}

const revision = async () => (await engine.list(cluster.keys.cluster)).revision;
const seconds = (sinceMs: number) => (performance.now() - sinceMs) / 1000;
const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

await cluster.createNetwork({
  name: "web",
  subnets: [],
  families: [4],
  internal: false,
  mode: "l3",
  names: "cluster",
  encrypted: false,
});
const figures: Record<string, unknown> = { hosts: hosts.length, names: hosts.length * names };

// What the hosts have written in an earlier life.
const [network] = await cluster.networks();
const [subnet] = network?.subnets ?? [];
if (!subnet) throw new Error("The network has no subnet");
const steps: Step[] = hosts.flatMap(({ settings, namespace, exchange }, index) => {
  const self = readSelf(settings, namespace);
  const cidr = {
    address: addToIp(firstIp(subnet.cidr), BigInt(index * 64)),
    prefixLength: subnet.blockLength,
  };
  const id = settings.hostId;
  const block = { v: 1, cidr, host: id, nonce: "0".repeat(12) };
  const own = exchange.local("web").map(
    (each): Step => ({
      kind: "create",
      key: `${cluster.keys.namesOn("web", id)}${sha256Hex(`${each.containerId}\0${each.ifName}`).slice(0, 26)}`,
      value: formatRecord({ v: 1, names: each.names, addresses: each.addresses }),
    }),
  );
  return [
    { kind: "create", key: cluster.keys.host(id), value: formatRecord(self ?? {}) },
    { kind: "create", key: cluster.keys.vtep(parseIp(underlayOf(index))), value: id },
    { kind: "create", key: cluster.keys.block("web", cidr), value: formatRecord(block) },
    ...own,
  ];
});
for (let at = 0; at < steps.length; at += 100) {
  const { committed } = await engine.commit(steps.slice(at, at + 100));
  if (!committed) throw new Error("The engine is not empty");
}

// All start at the same moment, and know nothing.
const storm = { ms: performance.now(), cpu: cpuSeconds(), bytes: bytes(), revision: await revision() };
const agents = hosts.map(startAgent);
await until("all are connected", () => agents.every((agent) => agent.status().connected));
const connected = { seconds: seconds(storm.ms), megabytes: (bytes() - storm.bytes) / 1e6 };
await until("all are registered", async () => (await revision()) - storm.revision >= hosts.length);
const last = await revision();
await until("all have heard of all", () => agents.every((agent) => agent.status().revision >= last));
figures["storm"] = {
  connected,
  seconds: seconds(storm.ms),
  cpuSeconds: cpuSeconds() - storm.cpu,
  megabytes: (bytes() - storm.bytes) / 1e6,
  writes: (await revision()) - storm.revision,
};
const routes = () => {
  const inKernel = hosts.map(
    ({ namespace }) => readAllRoutes(namespace).filter(({ gateway }) => gateway).length,
  );
  return Math.min(...inKernel);
};
await until("all ways are in all kernels", () => routes() >= hosts.length - 1);
figures["allWaysInAllKernelsSeconds"] = seconds(storm.ms);

await sleep(5000);
const quiet = { bytes: bytes(), revision: await revision(), cpu: cpuSeconds() };
await sleep(30_000);
figures["steady"] = {
  writesPerSecond: ((await revision()) - quiet.revision) / 30,
  kilobytesPerSecond: (bytes() - quiet.bytes) / 30_000,
  cpuPercentOfAll: ((cpuSeconds() - quiet.cpu) / 30) * 100,
};
figures["problems"] = [...new Set(agents.flatMap((agent) => agent.status().problems))].slice(0, 5);
process.stdout.write(`${JSON.stringify(figures, undefined, 2)}\n`);
await Promise.all(agents.map((agent) => agent.stop()));
process.exit(0);
