import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LocalEngine } from "#engine/local.ts";
import { silentLog } from "#machine/log.ts";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { AddressKeeper } from "./address-keeper.ts";
import { Cluster } from "./cluster.ts";
import { listOf } from "./cluster-list.ts";
import { LocalNetworks } from "./local-network.ts";
import { formatRecord, type HostRecord } from "./record.ts";
import { Session } from "./session.ts";
import { ClusterView } from "./view.ts";

let directory: string;
let engine: LocalEngine;
let cluster: Cluster;
let view: ClusterView;
let networks: LocalNetworks;
let keeper: AddressKeeper;
let problems: Map<string, string>;

const host: HostRecord = {
  v: 1,
  id: "h1",
  name: "h1",
  underlay: { v4: parseIp("203.0.113.1") },
  mtu: 1500,
  state: "active",
};
const register = async (previous?: Session) =>
  await Session.begin(engine, cluster.keys, host, "nonce", previous);
const look = async () => {
  view.replace(listOf(cluster.keys, await engine.list(cluster.keys.prefix)));
};
const known = () => {
  const [network] = view.networks.values();
  if (!network) throw new Error("no network is known");
  return network;
};

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "netctl-addresses-"));
  engine = await LocalEngine.open(join(directory, "engine"));
  cluster = new Cluster(engine, "lab");
  await cluster.open({ udpPort: 4789, vniMin: 1, vniMax: 9, pools: [] });
  await cluster.createNetwork({
    name: "web",
    subnets: [{ cidr: parseCidr("10.32.0.0/24"), blockLength: 29 }],
    families: [4],
    internal: false,
    mode: "l3",
    names: "none",
    encrypted: false,
  });
  view = new ClusterView(cluster.keys);
  networks = new LocalNetworks(directory);
  problems = new Map();
  await look();
  keeper = new AddressKeeper({
    engine,
    keys: cluster.keys,
    hostId: "h1",
    view,
    networks,
    problems,
    log: silentLog,
    changed: () => undefined,
  });
});
afterEach(async () => {
  await engine.close();
  rmSync(directory, { recursive: true });
});

test("a claim that is refused, as this host has registered anew, is to be tried again", async () => {
  const first = await register();
  const second = await register(first);
  expect(await keeper.keep(known(), first.fence, true)).toBe(false);
  expect([...problems.keys()]).toEqual(["claim/web"]);
  expect(await keeper.keep(known(), second.fence, true)).toBe(true);
  expect([...problems.keys()]).toEqual([]);
  expect(keeper.blocksOf("web")).toHaveLength(1);
});

test("a wish for addresses outlives a refusal for as long as an ADD may wait", () => {
  networks.want("web");
  networks.forgetOldWish("web");
  expect(networks.wanted()).toEqual(["web"]);
  const longAgo = new Date(Date.now() - 60_000);
  utimesSync(join(networks.wantedDirectory, "web"), longAgo, longAgo);
  networks.forgetOldWish("web");
  networks.forgetOldWish("web");
  expect(networks.wanted()).toEqual([]);
});

test("addresses of another host's block are told of until their containers have gone", async () => {
  const { fence } = await register();
  const cidr = parseCidr("10.32.0.8/29");
  await engine.commit([
    {
      kind: "create",
      key: cluster.keys.block("web", cidr),
      value: formatRecord({ v: 1, cidr, host: "h2", nonce: "n" }),
    },
  ]);
  await look();
  const leases = join(networks.leaseDirectory, "web");
  mkdirSync(leases, { recursive: true });
  writeFileSync(join(leases, "10.32.0.10"), "c1");
  await keeper.keep(known(), fence, false);
  expect([...problems.keys()]).toEqual(["quarantine/web/10.32.0.8/29"]);
  rmSync(join(leases, "10.32.0.10"));
  await keeper.keep(known(), fence, false);
  expect([...problems.keys()]).toEqual([]);

  problems.set("claim/gone", "no block is left");
  problems.set("quarantine/web/10.32.0.8/29", "still");
  keeper.forgetOthers(view.networks);
  expect([...problems.keys()]).toEqual(["quarantine/web/10.32.0.8/29"]);
});
