import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { LeaseKeeper } from "#dhcp/keeper.ts";
import type { LeaseStore } from "#dhcp/lease-store.ts";
import type { ClientIdentity } from "#dhcp/v4/client.ts";
import type { Lease } from "#dhcp/v4/lease.ts";
import { dhcp4 } from "#dhcp/v4/protocol.ts";
import { waitUntil } from "#kernel/wait.ts";
import { bridge } from "#plugins/bridge/main.ts";
import { DhcpRig } from "#testing/dhcp-rig.ts";
import { DhcpServer } from "#testing/dhcp-server.ts";
import type { TestHost } from "#testing/plugin-host.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";

let rig: DhcpRig;
let host: TestHost;
let lan: TestNamespace;
let container: TestNamespace;
const servers: DhcpServer[] = [];

beforeEach(() => {
  rig = new DhcpRig();
  ({ host, lan, container } = rig);
});

afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
  await rig.close();
});

const key = { network: "net1", containerId: "c1", ifName: "eth0" };
const range = "--dhcp-range=10.1.0.50,10.1.0.60,255.255.255.0,2m";
const serve = (...options: string[]) => rig.serve(range, ...options);
const call: DhcpRig["call"] = (...args) => rig.call(...args);
const add: DhcpRig["add"] = (...args) => rig.add(...args);
const store = (): LeaseStore<ClientIdentity, Lease> => rig.store(dhcp4);
const keeper = (ahead: () => number): LeaseKeeper<ClientIdentity, Lease> => rig.keeper(dhcp4, ahead);
const isUp = () => rig.isUp();

test("ADD brings the interface up and answers with what the server gives", async () => {
  const server = await serve(
    "--dhcp-option=6,10.1.0.53",
    "--dhcp-option=15,example.org",
    "--dhcp-option=119,a.example.org,b.example.org",
  );
  const result = await add({ priority: 7 });
  const [ip] = result["ips"] as unknown as readonly { address: string; gateway: string }[];
  expect(ip?.address).toMatch(/^10\.1\.0\.(5\d|60)\/24$/);
  expect(ip?.gateway).toBe("10.1.0.1");
  expect(result["routes"]).toEqual([{ dst: "0.0.0.0/0", gw: "10.1.0.1", priority: 7 }]);
  expect(result["dns"]).toEqual({
    nameservers: ["10.1.0.53"],
    domain: "example.org",
    search: ["a.example.org", "b.example.org"],
  });
  expect(isUp()).toBe(true);
  expect((await call("CHECK", {}, { prevResult: result })).json).toEqual({});
  expect(await call("DEL", {}, {}, { netns: "" })).toMatchObject({ exitCode: 0, json: {} });
  await server.saw(new RegExp(`DHCPRELEASE\\(up0\\) ${ip?.address.split("/")[0]}`));
  expect(store().list()).toEqual([]);
  expect(await call("DEL", {}, {}, { netns: "" })).toMatchObject({ exitCode: 0, json: {} });
});

test("classless routes take the place of the router", async () => {
  await serve("--dhcp-option=121,192.0.2.0/24,10.1.0.9,198.51.100.0/25,0.0.0.0");
  expect((await add())["routes"]).toEqual([
    { dst: "192.0.2.0/24", gw: "10.1.0.9" },
    { dst: "198.51.100.0/25", scope: 253 },
  ]);
});

test("the server is told what the configuration provides, and asked for what it requests", async () => {
  const server = await serve();
  const provide = [
    { option: "host-name", fromArg: "K8S_POD_NAME" },
    { option: "vendor-class-identifier", value: "netctl-test" },
    { option: "dhcp-client-identifier", value: "me" },
  ];
  const request = [{ skipDefault: true }, { option: "42" }];
  await add({ provide, request, daemonSocketPath: "/run/cni/dhcp.sock" }, { args: "K8S_POD_NAME=web-1" });
  const log = await server.saw(/DHCPACK/);
  expect(log).toContain("client provides name: web-1");
  expect(log).toContain("vendor class: netctl-test");
  const requested = /requested options: ([^\n]*)/.exec(log)?.[1];
  expect(requested).toContain("42:ntp-server");
  expect(requested).not.toContain("3:router");
  const [stored] = store().list();
  expect(Buffer.from(stored?.identity.provided.get(61) ?? []).toString()).toBe("\0me");
});

test("by default the client identifier is container, network and interface", async () => {
  await serve();
  await add();
  expect(Buffer.from(store().read(key)?.identity.provided.get(61) ?? []).toString()).toBe("\0c1/net1/eth0");
});

test("a server that has to answer to everybody does", async () => {
  const server = await serve();
  await add({ broadcast: true });
  expect(await server.saw(/DHCPACK/)).toMatch(/broadcast response/);
});

test("a repeated ADD gets the same address", async () => {
  await serve();
  const first = await add();
  expect((await add())["ips"]).toEqual(first["ips"]);
  expect(store().list()).toHaveLength(1);
});

test("without a server the error says so, and nothing is left", async () => {
  const { json } = await call("ADD", { timeoutSeconds: 1 });
  expect(json).toMatchObject({ code: 11 });
  expect(json["msg"]).toMatch(
    /^Cannot get an address by DHCP on eth0 \([0-9a-f:]{17}\): no server answered \(\d DISCOVER sent in 1 s\)$/,
  );
  expect(store().list()).toEqual([]);
});

test("what can't work is refused at once", async () => {
  expect((await call("ADD", {}, {}, { ifName: "eth7" })).json).toMatchObject({
    code: 4,
    msg: expect.stringContaining('no interface "eth7"'),
  });
  expect((await call("ADD", {}, {}, { netns: "/run/netns/never-was" })).json).toMatchObject({ code: 8 });
  const broken: readonly [JsonObject, RegExp][] = [
    [{ provide: [{ option: "nonsense", value: "x" }] }, /"provide\[0\]"\.option "nonsense"/],
    [{ request: [{ option: "255" }] }, /"request\[0\]"\.option "255"/],
    [
      { provide: [{ option: "host-name", value: "x".repeat(256) }] },
      /"provide\[0\]"\.value: it has 256 bytes/,
    ],
    [{ priority: -1 }, /priority -1/],
  ];
  for (const [ipam, msg] of broken) {
    expect((await call("ADD", ipam)).json).toMatchObject({ code: 7, msg: expect.stringMatching(msg) });
  }
});

test("STATUS and ADD fail where nobody would keep the lease", async () => {
  host.replace({
    names: {
      ...host.host.names,
      probe: async () => {
        throw new Error("no netd answers");
      },
    },
  });
  for (const verb of ["STATUS", "ADD"] as const) {
    expect((await call(verb)).json).toMatchObject({
      code: 50,
      msg: "Cannot keep DHCP leases: netd does not serve this host: no netd answers",
    });
  }
});

test("a lease is extended at T1, by its server, and by whoever comes after a restart", async () => {
  const server = await serve();
  await add();
  let ahead = 0;
  const first = keeper(() => ahead);
  first.tick();
  const before = store().read(key)?.lease;
  expect(first.hasLeases).toBe(true);
  ahead = 61;
  first.tick();
  await first.close();
  const after = store().read(key)?.lease;
  expect(after?.address).toEqual(before?.address);
  expect((after?.times.expiresAt ?? 0) - (before?.times.expiresAt ?? 0)).toBeGreaterThan(55);
  await server.saw(/(DHCPACK[^]*){2}/);
  const second = keeper(() => ahead);
  second.tick();
  await second.close();
  ahead = 125;
  const third = keeper(() => ahead);
  third.tick();
  await third.close();
  expect((await server.saw(/(DHCPACK[^]*){3}/)).match(/DHCPREQUEST/g)).toHaveLength(3);
  expect(isUp()).toBe(true);
});

test("from T2 on any server may extend it", async () => {
  const server = await serve();
  await add();
  const stored = store().read(key);
  if (!stored?.lease) throw new Error("no lease");
  // Its own server is another one, which is gone.
  store().write({ ...stored, lease: { ...stored.lease, server: { family: 4, value: 0x0a010063n } } });
  const late = keeper(() => 110);
  late.tick();
  await late.close();
  await server.saw(/(DHCPACK[^]*){2}/);
  expect(store().read(key)?.lease?.server).toEqual({ family: 4, value: 0x0a010001n });
});

test("an interface goes down when its lease has expired, and CHECK says so", async () => {
  const server = await serve();
  const prevResult = await add();
  await server.stop();
  let ahead = 100;
  const kept = keeper(() => ahead);
  kept.tick();
  await waitUntil("the first try to end", () => (kept.isIdle ? true : undefined), { timeoutMs: 10_000 });
  expect(isUp()).toBe(true);
  expect(store().list()).toHaveLength(1);
  ahead = 121;
  kept.tick();
  await kept.close();
  expect(isUp()).toBe(false);
  expect(store().list()).toEqual([]);
  expect((await call("CHECK", {}, { prevResult })).json["msg"]).toBe("there is no DHCP lease for eth0");
});

test("an interface goes down when its server takes the address back", async () => {
  const server = await serve();
  await add();
  await server.stop();
  servers.push(
    await DhcpServer.start(lan, "up0", [
      "--dhcp-range=10.1.0.200,10.1.0.210,255.255.255.0,2m",
      "--dhcp-ignore-names",
    ]),
  );
  lan.run("ip addr flush dev up0; ip addr add 10.1.0.1/24 dev up0");
  const stored = store().read(key);
  if (!stored?.lease) throw new Error("no lease");
  const address = { address: { family: 4 as const, value: 0x0a020005n }, prefixLength: 24 };
  store().write({ ...stored, lease: { ...stored.lease, address } });
  const kept = keeper(() => 110);
  kept.tick();
  await kept.close();
  expect(isUp()).toBe(false);
});

test("a container that has gone is forgotten; so is a lease of an earlier boot", async () => {
  await serve();
  await add();
  const stored = store().read(key);
  if (!stored) throw new Error("no lease");
  store().write({ ...stored, key: { ...key, containerId: "old" }, bootId: "earlier" });
  const kept = keeper(() => 61);
  kept.tick();
  await kept.close();
  expect(
    store()
      .list()
      .map((each) => each.key.containerId),
  ).toEqual(["c1"]);
  container.remove();
  const later = keeper(() => 200);
  later.tick();
  await later.close();
  expect(store().list()).toEqual([]);
});

test("GC gives back what belongs to no valid attachment", async () => {
  const server = await serve();
  await add();
  const gc = (valid: JsonObject[]) => call("GC", {}, { "cni.dev/valid-attachments": valid });
  expect(await gc([{ containerID: "c1", ifname: "eth0" }])).toMatchObject({ exitCode: 0 });
  expect(store().list()).toHaveLength(1);
  expect(await gc([])).toMatchObject({ exitCode: 0 });
  expect(store().list()).toEqual([]);
  await server.saw(/DHCPRELEASE/);
});

test("bridge makes the interface before it asks, and says goodbye before it removes it", async () => {
  const server = await serve();
  const other = host.container("bridged");
  host.namespace.run("ip link add br0 type bridge; ip link set br0 up");
  lan.run(`ip link add up1 type veth peer name port0 netns ${host.namespace.name}; ip link set up1 up`);
  lan.run(
    "ip addr flush dev up0; ip link add lan0 type bridge; ip link set up0 master lan0; ip link set up1 master lan0",
  );
  host.namespace.run("ip link set port0 master br0; ip link set port0 up");
  await server.stop();
  lan.run("ip link set lan0 up; ip addr add 10.1.0.1/24 dev lan0");
  const bridged = await DhcpServer.start(lan, "lan0", [range]);
  servers.push(bridged);
  const config = { cniVersion: "1.1.0", name: "net1", type: "bridge", bridge: "br0", ipam: { type: "dhcp" } };
  const args = { containerId: "c2", ifName: "eth0", netns: other.path };
  const { json } = await host.call(bridge, "ADD", config, args);
  const [ip] = json["ips"] as unknown as readonly { address: string }[];
  expect(ip?.address).toMatch(/^10\.1\.0\.(5\d|60)\/24$/);
  expect(other.run("ip -4 -o addr show dev eth0")).toContain(ip?.address);
  expect(other.run("ip route")).toContain("default via 10.1.0.1 dev eth0");
  expect((await host.call(bridge, "CHECK", { ...config, prevResult: json }, args)).json).toEqual({});
  expect((await host.call(bridge, "DEL", config, args)).json).toEqual({});
  await bridged.saw(/DHCPRELEASE/);
  expect(other.run("ip -o link")).not.toContain("eth0");
});

test("a bridge whose network has no server leaves nothing of an ADD", async () => {
  const other = host.container("bridged");
  const ipam = { type: "dhcp", timeoutSeconds: 1 };
  const config = { cniVersion: "1.1.0", name: "net1", type: "bridge", bridge: "br0", ipam };
  const args = { containerId: "c2", ifName: "eth0", netns: other.path };
  expect((await host.call(bridge, "ADD", config, args)).json).toMatchObject({ code: 11 });
  expect(other.run("ip -o link")).not.toContain("eth0");
  expect(host.namespace.run("ip -o link")).not.toContain("veth");
  expect(host.host.journal.list()).toEqual([]);
});
