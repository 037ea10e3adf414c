import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { waitUntil } from "#kernel/wait.ts";
import { packetsReceived, sendDatagrams } from "#testing/datagrams.ts";
import { type Answer, TestHost, type VerbArguments } from "#testing/plugin-host.ts";
import { testWith } from "#testing/requires.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { bandwidth } from "./main.ts";

let host: TestHost;
let container: TestNamespace;

beforeEach(() => {
  host = new TestHost("bandwidth");
  container = host.container();
});

afterEach(async () => {
  await host.close();
});

// Nobody has the addresses .9 and ::9, at which packets are counted where they arrive, and which nobody answers for.
const hostAddresses = ["10.1.0.1", "10.1.7.1", "fd00:1::1", "fd00:7::1"];
const containerAddresses = ["10.1.0.2", "fd00:1::2"];

/** A veth pair, with addresses on both ends and nobody who speaks unasked. */
function pair(): void {
  host.namespace.run(`ip link add vh0 type veth peer name eth0 netns ${container.name}`);
  connect(host.namespace, "vh0", hostAddresses);
  connect(container, "eth0", containerAddresses);
  const mac = (namespace: TestNamespace, dev: string) =>
    namespace.json<{ address: string }>(`ip -j link show dev ${dev}`)[0]?.address ?? "";
  meet(host.namespace, "vh0", mac(container, "eth0"));
  meet(container, "eth0", mac(host.namespace, "vh0"));
}

function connect(namespace: TestNamespace, dev: string, addresses: readonly string[]): void {
  namespace.run(`ip link set ${dev} addrgenmode none; ip link set ${dev} up`);
  for (const address of addresses) {
    namespace.run(`ip addr add ${address}/${address.includes(":") ? "32 nodad" : "16"} dev ${dev}`);
  }
}

function meet(namespace: TestNamespace, dev: string, mac: string): void {
  for (const nobody of ["10.1.0.9", "10.1.7.9", "fd00:1::9", "fd00:7::9"]) {
    if (!nobody.startsWith("fd00:7") || dev === "eth0")
      namespace.run(`ip neigh add ${nobody} lladdr ${mac} dev ${dev}`);
  }
}

// A packet each eight seconds, after a burst of twenty: nobody waits for what the bucket holds back.
const slow = 1000;
const twentyPackets = 8 * 20 * 1042;
const ingress = { ingressRate: slow, ingressBurst: twentyPackets };
const egress = { egressRate: slow, egressBurst: twentyPackets };

interface Qdisc {
  readonly kind: string;
  readonly handle: string;
  readonly root?: boolean;
  readonly packets: number;
  readonly drops: number;
  readonly qlen: number;
}

function qdiscs(dev: string, namespace = host.namespace): readonly Qdisc[] {
  return namespace.json<Qdisc>(`tc -s -j qdisc show dev ${dev}`);
}

function links(namespace = host.namespace): string[] {
  return namespace.json<{ ifname: string }>("ip -j link").map(({ ifname }) => ifname);
}

const prevResult = (): JsonObject => ({
  cniVersion: "1.1.0",
  interfaces: [{ name: "vh0" }, { name: "eth0", sandbox: container.path }],
});

async function call(verb: Verb, fields: JsonObject = {}, args: VerbArguments = {}): Promise<Answer> {
  const config = {
    cniVersion: "1.1.0",
    name: "net1",
    type: "bandwidth",
    prevResult: prevResult(),
    ...fields,
  };
  return await host.call(bandwidth, verb, config, {
    containerId: "c1",
    ifName: "eth0",
    netns: container.path,
    ...args,
  });
}

async function add(fields: JsonObject, args: VerbArguments = {}): Promise<JsonObject> {
  const { json } = await call("ADD", fields, args);
  expect(json).not.toHaveProperty("code");
  return json;
}

/** As a runtime that has forgotten everything. */
async function del(args: VerbArguments = { netns: "" }): Promise<void> {
  const config = { cniVersion: "1.1.0", name: "net1", type: "bandwidth" };
  const answer = await host.call(bandwidth, "DEL", config, { containerId: "c1", ifName: "eth0", ...args });
  expect(answer).toMatchObject({ exitCode: 0, json: {} });
}

/** How many of a hundred packets of 1042 bytes (with headers, IPv4) arrive. */
function passes(from: TestNamespace, to: TestNamespace, addresses: { from: string; to: string }): number {
  const family = addresses.to.includes(":") ? 6 : 4;
  const before = packetsReceived(to, family);
  sendDatagrams(from, { ...addresses, count: 100, bytes: 1000 });
  return packetsReceived(to, family) - before;
}

const toContainer = { from: "10.1.0.1", to: "10.1.0.9" };
const fromContainer = { from: "10.1.0.2", to: "10.1.0.9" };
const shaped = (count: number) => count >= 19 && count <= 22;

testWith(["tbf"], "what goes to the container passes at its rate, after its burst", async () => {
  pair();
  await add(ingress);
  expect(passes(host.namespace, container, toContainer)).toSatisfy(shaped);
  // Twenty wait, which is what the burst lets in again, and the rest is dropped.
  const [root] = qdiscs("vh0");
  expect(root).toMatchObject({ kind: "tbf", handle: "1:", root: true });
  expect(root?.drops).toBeGreaterThanOrEqual(58);
  expect(passes(container, host.namespace, fromContainer)).toBe(100);
  expect(await call("CHECK", ingress)).toMatchObject({ exitCode: 0 });
  await del();
  expect(qdiscs("vh0").map(({ kind }) => kind)).toEqual(["noqueue"]);
  expect(passes(host.namespace, container, toContainer)).toBe(100);
  expect(host.host.journal.list()).toEqual([]);
});

testWith(
  ["tbf", "ifb", "u32", "mirred"],
  "what comes from the container passes at its rate, by a link of its own",
  async () => {
    pair();
    const before = links();
    const result = await add(egress);
    const made = links().filter((name) => !before.includes(name));
    expect(made).toEqual([expect.stringMatching(/^bwp[0-9a-f]{12}$/)]);
    expect(result["interfaces"]).toMatchObject([
      { name: "vh0" },
      { name: "eth0" },
      { name: made[0], mtu: 1500 },
    ]);
    expect(passes(container, host.namespace, fromContainer)).toSatisfy(shaped);
    expect(passes(host.namespace, container, toContainer)).toBe(100);
    expect(await call("CHECK", egress)).toMatchObject({ exitCode: 0 });
    await del();
    expect(links()).toEqual(before);
    expect(qdiscs("vh0").map(({ kind }) => kind)).toEqual(["noqueue"]);
    expect(passes(container, host.namespace, fromContainer)).toBe(100);
  },
);

testWith(["htb", "ifb", "u32", "mirred"], "subnets are exempt in both directions and families", async () => {
  pair();
  const fields = { ...ingress, ...egress, unshapedSubnets: ["10.1.7.0/24", "fd00:7::/32"] };
  await add(fields);
  expect(passes(host.namespace, container, toContainer)).toSatisfy(shaped);
  expect(passes(host.namespace, container, { from: "10.1.7.1", to: "10.1.0.9" })).toBe(100);
  expect(passes(container, host.namespace, { from: "10.1.0.2", to: "10.1.7.9" })).toBe(100);
  container.run("ip -6 route add fd00:7::/32 dev eth0");
  expect(passes(container, host.namespace, { from: "fd00:1::2", to: "fd00:7::9" })).toBeGreaterThanOrEqual(
    100,
  );
  expect(passes(container, host.namespace, { from: "fd00:1::2", to: "fd00:1::9" })).toBeLessThan(30);
  expect((await call("CHECK", fields)).json).toEqual({});
  await del();
  expect(qdiscs("vh0").map(({ kind }) => kind)).toEqual(["noqueue"]);
});

testWith(["htb", "ifb", "u32", "mirred"], "or they are the only ones that are limited", async () => {
  pair();
  const fields = { ...ingress, ...egress, shapedSubnets: ["10.1.7.0/24"] };
  await add(fields);
  expect(passes(host.namespace, container, toContainer)).toBe(100);
  expect(passes(host.namespace, container, { from: "10.1.7.1", to: "10.1.0.9" })).toSatisfy(shaped);
  expect(passes(container, host.namespace, fromContainer)).toBe(100);
  expect(passes(container, host.namespace, { from: "10.1.0.2", to: "10.1.7.9" })).toSatisfy(shaped);
  expect((await call("CHECK", fields)).json).toEqual({});
});

testWith(
  ["macvlan", "ifb", "u32", "mirred"],
  "an interface without a host's end is limited where it is",
  async () => {
    const outside = host.container("outside");
    host.namespace.run(`ip link add up0 type veth peer name far0 netns ${outside.name}; ip link set up0 up`);
    host.namespace.run(`ip link add link up0 name eth0 netns ${container.name} type macvlan`);
    connect(outside, "far0", hostAddresses);
    connect(container, "eth0", containerAddresses);
    const mac = (namespace: TestNamespace, dev: string) =>
      namespace.json<{ address: string }>(`ip -j link show dev ${dev}`)[0]?.address ?? "";
    meet(outside, "far0", mac(container, "eth0"));
    meet(container, "eth0", mac(outside, "far0"));
    const before = links(container);
    const result = await add({ ...ingress, ...egress });
    expect(result["interfaces"]).toMatchObject([{}, {}, { sandbox: container.path }]);
    expect(passes(outside, container, toContainer)).toSatisfy(shaped);
    expect(passes(container, outside, fromContainer)).toSatisfy(shaped);
    expect(await call("CHECK", { ...ingress, ...egress })).toMatchObject({ exitCode: 0, json: {} });
    await del();
    expect(links(container)).toEqual(before);
    expect(passes(container, outside, fromContainer)).toBe(100);
  },
);

testWith(["tbf", "ifb"], "a repeated ADD takes the new rates, and leaves nothing of the old", async () => {
  pair();
  const before = links();
  await add({ ...ingress, ...egress });
  await add({ ...ingress, ...egress });
  expect(links()).toHaveLength(before.length + 1);
  expect(passes(container, host.namespace, fromContainer)).toSatisfy(shaped);
  await add({ runtimeConfig: { bandwidth: { ingressRate: 8_000_000, ingressBurst: 8_000_000 } } });
  expect(links()).toEqual(before);
  expect(host.namespace.run("tc qdisc show dev vh0")).toMatch(/tbf 1: root refcnt \d+ rate 8Mbit burst/);
  await add({});
  expect(qdiscs("vh0").map(({ kind }) => kind)).toEqual(["noqueue"]);
});

testWith(["tbf", "ifb"], "an ADD after the loss of the journal takes over what is there", async () => {
  pair();
  await add({ ...ingress, ...egress });
  host.host.journal.remove({ network: "net1", containerId: "c1", ifName: "eth0" }, "bandwidth");
  await add({ ...ingress, ...egress });
  expect(passes(container, host.namespace, fromContainer)).toSatisfy(shaped);
  await del();
  await del();
  expect(links()).toEqual(["lo", "vh0"]);
});

testWith(["tbf", "ifb"], "two interfaces of one container in one network have a link each", async () => {
  pair();
  host.namespace.run(`ip link add vh1 type veth peer name eth1 netns ${container.name}; ip link set vh1 up`);
  container.run("ip link set eth1 up");
  await add(egress);
  await add(egress, { ifName: "eth1" });
  const both = links().filter((name) => name.startsWith("bwp"));
  expect(both).toHaveLength(2);
  await del({ ifName: "eth0" });
  expect(links().filter((name) => name.startsWith("bwp"))).toEqual([both[1]]);
  await del({ ifName: "eth0" });
  expect(links().filter((name) => name.startsWith("bwp"))).toEqual([both[1]]);
  await del({ ifName: "eth1" });
  expect(links().filter((name) => name.startsWith("bwp"))).toEqual([]);
});

testWith(["tbf", "ifb"], "DEL and GC remove the link when the container is gone", async () => {
  pair();
  await add(egress);
  container.remove();
  await del();
  expect(links().filter((name) => name.startsWith("bwp"))).toEqual([]);
  // The kernel removes what was in a namespace after it has gone.
  await waitUntil("the pair to go", () => !links().includes("vh0") || undefined, { timeoutMs: 10_000 });
  container = host.container();
  pair();
  await add(egress);
  const gc = { cniVersion: "1.1.0", name: "net1", type: "bandwidth", "cni.dev/valid-attachments": [] };
  expect(await host.call(bandwidth, "GC", gc)).toMatchObject({ exitCode: 0 });
  expect(links().filter((name) => name.startsWith("bwp"))).toEqual([]);
  expect(host.host.journal.list()).toEqual([]);
});

testWith(["tbf", "ifb"], "somebody else's filters for what arrives stay", async () => {
  pair();
  host.namespace.run("tc qdisc add dev vh0 clsact");
  host.namespace.run("tc filter add dev vh0 ingress prio 77 protocol arp u32 match u32 0 0 flowid 1:1");
  await add(egress);
  expect(passes(container, host.namespace, fromContainer)).toSatisfy(shaped);
  await del();
  expect(qdiscs("vh0").map(({ kind }) => kind)).toContain("clsact");
  expect(host.namespace.run("tc filter show dev vh0 ingress")).toMatch(/pref 77/);
  expect(host.namespace.run("tc filter show dev vh0 ingress")).not.toMatch(/mirred/);
});

test("somebody else's qdisc is not replaced", async () => {
  pair();
  host.namespace.run("tc qdisc add dev vh0 root handle 7: pfifo");
  const { json } = await call("ADD", { ...ingress, ...egress });
  expect(json).toMatchObject({ code: 4, msg: expect.stringContaining('"vh0": it has a pfifo qdisc 7:') });
  expect(links()).toEqual(["lo", "vh0"]);
  expect(host.host.journal.list()).toEqual([]);
});

testWith(["tbf", "ifb"], "CHECK names what is missing or otherwise", async () => {
  pair();
  const fields = { ...ingress, ...egress };
  await add(fields);
  host.namespace.run(
    "tc filter del dev vh0 ingress; tc qdisc change dev vh0 root tbf rate 16kbit burst 20840 limit 40000",
  );
  const { json } = await call("CHECK", fields);
  expect(json["msg"]).toBe(
    "vh0 lets 2000 bytes a second through, not 125; vh0 lets 40000 bytes wait, not 20843; vh0 lacks 1 of 1 filters",
  );
  host.namespace.run("ip link del $(ip -o link | grep -o 'bwp[0-9a-f]*')");
  expect((await call("CHECK", egress)).json["msg"]).toMatch(/^there is no ifb bwp/);
});

test("without rates, or without an interface", async () => {
  expect(await add({})).toEqual(prevResult());
  expect(host.host.journal.list()).toEqual([]);
  const { json } = await call("ADD", ingress);
  expect(json).toMatchObject({ code: 4, msg: expect.stringContaining('interface "eth0"') });
  const chained = await host.call(
    bandwidth,
    "ADD",
    { cniVersion: "1.1.0", name: "net1", type: "bandwidth" },
    { containerId: "c1", ifName: "eth0", netns: container.path },
  );
  expect(chained.json).toMatchObject({ code: 7, msg: "must be called as chained plugin" });
});

testWith(["tbf", "ifb", "htb"], "STATUS knows what this kernel can, and makes nothing", async () => {
  const before = host.namespace.run("ip -j link; tc -j qdisc");
  expect(await call("STATUS", {})).toMatchObject({ exitCode: 0, json: {} });
  expect(await call("STATUS", { shapedSubnets: ["10.0.0.0/8"] })).toMatchObject({ exitCode: 0, json: {} });
  expect(host.namespace.run("ip -j link; tc -j qdisc")).toBe(before);
});
