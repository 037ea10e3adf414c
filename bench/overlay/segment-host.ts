import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Step } from "#engine/engine.ts";
import { EtcdEngine } from "#engine/etcd/etcd.ts";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { lineLog } from "#machine/log.ts";
import { firstIp, parseCidr } from "#net/cidr.ts";
import { addToIp, formatIp } from "#net/ip.ts";
import { decodeNeighbor, getNeighbors, NeighborState } from "#netlink/route/neighbor.ts";
import { Nftables } from "#nftables/nftables.ts";
import { OverlayAgent } from "#overlay/agent.ts";
import { Cluster } from "#overlay/cluster.ts";
import type { HostSettings } from "#overlay/host-settings.ts";
import { formatRecord } from "#overlay/record.ts";
import { readSelf } from "#overlay/self.ts";

/**
 * One host of a network of mode l2, whose other hosts and their containers stand in etcd: segment-host.js URL DIRECTORY
 * NAMESPACE HOSTS ENDPOINTS. Its parent changes the containers, and asks by messages: "cpu" for the process's CPU time
 * in ms, "reached" for the number of addresses in the kernel, and with an address for whether that is one.
 */
const [url = "", directory = "", path = "", hostsText = "", endpointsText = ""] = process.argv.slice(2);
const hosts = Number(hostsText);
const endpoints = Number(endpointsText);
const engine = new EtcdEngine({ endpoints: [url] });
const cluster = new Cluster(engine, "lab");
const pool = { base: parseCidr("10.128.0.0/10"), size: 16, blockLength: 26 };
const { uuid } = await cluster.open({ udpPort: 4789, vniMin: 4096, vniMax: 0xffffff, pools: [pool] });
await cluster.createNetwork({
  name: "flat",
  subnets: [],
  families: [4],
  internal: false,
  mode: "l2",
  names: "host",
  encrypted: false,
});
const [network] = await cluster.networks();
const [subnet] = network?.subnets ?? [];
if (!subnet) throw new Error("The network has no subnet");

const settings = {
  v: 1,
  cluster: "lab",
  uuid,
  hostId: idOf(0),
  nonce: "nonce",
  name: "h0",
  engine: { kind: "etcd", endpoints: [url] },
  underlay: { v4: "10.77.0.0" },
} satisfies HostSettings;
const namespace = NetworkNamespace.open(path);
const self = readSelf(settings, namespace);
if (!self) throw new Error("The host has no address");

const firstAddress = firstIp(subnet.cidr);
const steps: Step[] = [];
for (let host = 0; host < hosts; host++) {
  const id = idOf(host);
  const underlay = { v4: addToIp(firstIp(parseCidr("10.77.0.0/16")), BigInt(host)) };
  const cidr = { address: addToIp(firstAddress, BigInt(host * 64)), prefixLength: subnet.blockLength };
  const block = { v: 1, cidr, host: id, nonce: "0".repeat(12) };
  steps.push({ kind: "create", key: cluster.keys.block("flat", cidr), value: formatRecord(block) });
  if (host > 0)
    steps.push({
      kind: "create",
      key: cluster.keys.host(id),
      value: formatRecord({ ...self, id, name: `h${host}`, underlay }),
    });
}
for (let at = 0; at < endpoints; at++) {
  const host = 1 + (at % (hosts - 1));
  const ip = formatIp(addToIp(firstAddress, BigInt(host * 64 + 2 + Math.floor(at / (hosts - 1)))));
  const mac = `02:00:00:00:${hex(at >> 8)}:${hex(at & 255)}`;
  const key = `${cluster.keys.endpointsOn("flat", idOf(host))}${at}`;
  steps.push({ kind: "create", key, value: JSON.stringify({ v: 1, mac, ips: [ip] }) });
}
for (let at = 0; at < steps.length; at += 100) {
  const { committed } = await engine.commit(steps.slice(at, at + 100));
  if (!committed) throw new Error("The engine is not empty");
}

function idOf(host: number): string {
  return host.toString(16).padStart(16, "0");
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

const reached = () =>
  namespace
    .dump(getNeighbors({}))
    .map(decodeNeighbor)
    .filter(({ state }) => state === NeighborState.permanent)
    .map(({ ip }) => formatIp(ip));

mkdirSync(join(directory, "conf"));
const agent = new OverlayAgent({
  settings,
  engine,
  namespace,
  directory: join(directory, "overlay"),
  nftables: new Nftables({ namespacePath: path }),
  confDirectory: join(directory, "conf"),
  names: {
    begin: () => undefined,
    local: () => [],
    change: () => Promise.resolve(),
    onChange: () => () => undefined,
  },
  log: lineLog([{ level: "warn", write: (line) => process.stderr.write(line) }]),
  endpoints: () => [],
  adopt: () => Promise.resolve(),
});
agent.start();
process.on("message", (message) => {
  const { user, system } = process.cpuUsage();
  if (message === "cpu") process.send?.((user + system) / 1000);
  else if (message === "reached") process.send?.(reached().length);
  else process.send?.(reached().includes(String(message)));
});
// Each other host counts as a container of its own.
while (reached().length < endpoints + hosts - 1) await sleep(200);
process.send?.({
  spare: formatIp(addToIp(firstAddress, 64n + 60n)),
  key: `${cluster.keys.endpointsOn("flat", idOf(1))}spare`,
});
