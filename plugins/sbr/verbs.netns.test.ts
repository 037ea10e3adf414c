import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { type Answer, TestHost, type VerbArguments } from "#testing/plugin-host.ts";
import { testWith } from "#testing/requires.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { sbr } from "./main.ts";

let host: TestHost;
let container: TestNamespace;

// eth0 is another network's, with the default route; eth1 is what sbr is for.
beforeEach(() => {
  host = new TestHost("sbr");
  container = host.container();
  container.run(`
    for i in 0 1; do
      ip link add eth$i type veth peer name far$i
      ip link set eth$i addrgenmode none; ip link set far$i addrgenmode none
      ip link set eth$i up; ip link set far$i up
      ip addr add 10.$i.0.2/24 dev eth$i; ip addr add fd00:$i::2/64 dev eth$i nodad
    done
    ip route add default via 10.0.0.1 dev eth0; ip -6 route add default via fd00::1 dev eth0
    ip route add default via 10.1.0.1 dev eth1 metric 50; ip route add 198.51.100.0/24 via 10.1.0.3 dev eth1 mtu 1400
    ip -6 route add 2001:db8:51::/48 via fd00:1::3 dev eth1`);
});

afterEach(async () => {
  await host.close();
});

function prevResult(...addresses: { address: string; gateway?: string; interface?: number }[]): JsonObject {
  return {
    cniVersion: "1.1.0",
    interfaces: [{ name: "veth1" }, { name: "eth1", sandbox: container.path }, { name: "eth1" }],
    ips: addresses.map((each) => ({ interface: 1, ...each })),
  };
}

const v4 = { address: "10.1.0.2/24", gateway: "10.1.0.1" };
const v6 = { address: "fd00:1::2/64", gateway: "fd00:1::1" };

async function call(verb: Verb, fields: JsonObject = {}, args: VerbArguments = {}): Promise<Answer> {
  const config = {
    cniVersion: "1.1.0",
    name: "net1",
    type: "sbr",
    prevResult: prevResult(v4, v6),
    ...fields,
  };
  return await host.call(sbr, verb, config, {
    containerId: "c1",
    ifName: "eth1",
    netns: container.path,
    ...args,
  });
}

async function add(fields: JsonObject = {}, args: VerbArguments = {}): Promise<void> {
  const { json } = await call("ADD", fields, args);
  expect(json).not.toHaveProperty("code");
}

/** As a runtime that has forgotten everything. */
async function del(args: VerbArguments = { netns: "" }): Promise<void> {
  const config = { cniVersion: "1.1.0", name: "net1", type: "sbr" };
  const answer = await host.call(sbr, "DEL", config, { containerId: "c1", ifName: "eth1", ...args });
  expect(answer).toMatchObject({ exitCode: 0, json: {} });
}

/** All rules and routes, without what the kernel makes for addresses and multicast. */
function routing(): string {
  const script = "ip rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all";
  return container
    .run(script)
    .split("\n")
    .filter((line) => !/table local|^multicast/.test(line))
    .map((line) => line.trim())
    .sort()
    .join("\n");
}

function rules(): string[] {
  return container
    .run("ip rule; ip -6 rule")
    .split("\n")
    .map((line) => line.replace(/^\d+:\s+/, "").trim())
    .filter((line) => /^from [0-9a-f:.]+ /.test(line))
    .sort();
}

/** Which link a packet would leave by. */
function wayOf(from: string, to: string): string {
  const [route] = container.json<{ dev: string; gateway?: string }>(`ip -j route get ${to} from ${from}`);
  return `${route?.dev}${route?.gateway ? ` via ${route.gateway}` : ""}`;
}

test("what is sent from the interface's addresses leaves by it, and nothing else does", async () => {
  const before = routing();
  await add();
  expect(rules()).toEqual(["from 10.1.0.2 lookup 100", "from fd00:1::2 lookup 101"]);
  expect(wayOf("10.1.0.2", "192.0.2.9")).toBe("eth1 via 10.1.0.1");
  expect(wayOf("10.1.0.2", "198.51.100.9")).toBe("eth1 via 10.1.0.3");
  expect(wayOf("10.1.0.2", "10.1.0.9")).toBe("eth1");
  expect(wayOf("fd00:1::2", "2001:db8::9")).toBe("eth1 via fd00:1::1");
  expect(wayOf("fd00:1::2", "2001:db8:51::9")).toBe("eth1 via fd00:1::3");
  expect(wayOf("10.0.0.2", "198.51.100.9")).toBe("eth0 via 10.0.0.1");
  expect(wayOf("10.0.0.2", "10.1.0.9")).toBe("eth0 via 10.0.0.1");
  expect(container.run("ip route show table 100")).toContain(
    "198.51.100.0/24 via 10.1.0.3 dev eth1 mtu 1400",
  );
  expect(container.run("ip route show dev eth1; ip -6 route show dev eth1")).toBe("");
  expect((await call("CHECK")).json).toEqual({});
  await del();
  expect(routing()).toBe(before);
  expect(host.host.journal.list()).toEqual([]);
  await del();
});

test("every address of the interface has a table of its own, from 100 on, that nobody else uses", async () => {
  container.run("ip addr add 10.1.7.2/24 dev eth1");
  container.run("ip route add 192.0.2.0/24 dev eth0 table 100; ip -6 rule add from 2001:db8::/32 table 101");
  await add({ prevResult: prevResult(v4, { address: "10.1.7.2/24", gateway: "10.1.7.1" }, v6) });
  expect(rules().filter((rule) => !rule.includes("2001:"))).toEqual([
    "from 10.1.0.2 lookup 102",
    "from 10.1.7.2 lookup 103",
    "from fd00:1::2 lookup 104",
  ]);
  expect(wayOf("10.1.7.2", "192.0.2.9")).toBe("eth1 via 10.1.7.1");
  expect(wayOf("10.1.0.2", "192.0.2.9")).toBe("eth1 via 10.1.0.1");
});

test("several interfaces at once get different tables", async () => {
  const eth0 = {
    cniVersion: "1.1.0",
    interfaces: [{ name: "eth0", sandbox: container.path }],
    ips: [{ address: "10.0.0.2/24", gateway: "10.0.0.1", interface: 0 }],
  };
  await Promise.all([
    add({ prevResult: prevResult(v4) }),
    add({ prevResult: eth0 }, { ifName: "eth0" }),
    add({ prevResult: prevResult(v6), name: "net2" }),
  ]);
  expect(new Set(rules().map((rule) => rule.split(" ").at(-1))).size).toBe(3);
});

test("with a table there are rules alone", async () => {
  const before = routing();
  await add({ table: 7 });
  expect(rules()).toEqual(["from 10.1.0.2 lookup 7", "from fd00:1::2 lookup 7"]);
  expect(
    routing()
      .split("\n")
      .filter((line) => !line.includes("lookup 7")),
  ).toEqual(before.split("\n"));
  expect((await call("CHECK", { table: 7 })).json).toEqual({});
  await del();
  expect(routing()).toBe(before);
});

test("gateways take the place of the result's, source hints keep the subnets in the main table", async () => {
  const before = routing();
  await add({ gateways: ["10.1.0.77", "fd00:1::77"], addSourceHints: true });
  expect(wayOf("10.1.0.2", "192.0.2.9")).toBe("eth1 via 10.1.0.77");
  expect(wayOf("fd00:1::2", "2001:db8::9")).toBe("eth1 via fd00:1::77");
  expect(container.run("ip route show dev eth1").trim()).toBe("10.1.0.0/24 scope link src 10.1.0.2");
  expect(container.run("ip -6 route show dev eth1")).toMatch(/^fd00:1::\/64 src fd00:1::2/);
  await del();
  expect(routing()).toBe(before);
});

test("an address without gateway keeps the routes that it has", async () => {
  await add({ prevResult: prevResult({ address: "10.1.0.2/24" }) });
  expect(wayOf("10.1.0.2", "192.0.2.9")).toBe("eth1 via 10.1.0.1");
  expect(rules()).toEqual(["from 10.1.0.2 lookup 100"]);
});

test("a result without addresses, or with those of others, changes nothing", async () => {
  const before = routing();
  await add({ prevResult: prevResult() });
  await add({ prevResult: prevResult({ ...v4, interface: 0 }, { ...v6, interface: 2 }) });
  expect(routing()).toBe(before);
  expect(host.host.journal.list()).toEqual([]);
});

test("a repeated ADD leaves as much as one", async () => {
  const before = routing();
  await add();
  const once = routing();
  await add();
  expect(routing()).toBe(once);
  await del();
  expect(routing()).toBe(before);
});

test("an ADD that fails leaves everything as it was", async () => {
  const before = routing();
  const { json } = await call("ADD", { gateways: ["192.0.2.77"] });
  expect(json).toMatchObject({ code: 7, msg: expect.stringContaining("192.0.2.77") });
  expect(routing()).toBe(before);
  expect(host.host.journal.list()).toEqual([]);
  expect((await call("ADD", { gateways: ["10.1.0.1", "10.1.0.2"] })).json).toMatchObject({
    code: 7,
    msg: expect.stringContaining("gateways list cannot contain more than 2 entries (one IPv4, one IPv6)"),
  });
  expect((await call("ADD", {}, { ifName: "eth7" })).json).toMatchObject({ code: 4 });
});

test("CHECK names what is missing", async () => {
  await add();
  container.run("ip rule del from 10.1.0.2; ip -6 route flush table 101");
  expect((await call("CHECK")).json["msg"]).toBe(
    "there is no rule from 10.1.0.2; table 101 for fd00:1::2 has no route through the interface",
  );
});

test("DEL succeeds when the interface or the namespace is gone, and removes the rules of the former", async () => {
  await add();
  container.run("ip link del eth1");
  await del();
  expect(rules()).toEqual([]);
  container.run(
    "ip link add eth1 type veth peer name far1; ip link set eth1 up; ip addr add 10.1.0.2/24 dev eth1",
  );
  await add({ prevResult: prevResult({ address: "10.1.0.2/24" }) });
  container.remove();
  await del();
  expect(host.host.journal.list()).toEqual([]);
});

test("DEL without a record removes the rules of the interface's addresses, and no others", async () => {
  container.run("ip rule add from 10.1.0.2 table 100; ip -6 rule add from fd00:1::2 table 101");
  container.run("ip rule add from 10.0.0.2 table 50");
  await del({ netns: container.path });
  expect(rules()).toEqual(["from 10.0.0.2 lookup 50"]);
});

test("GC takes back what belongs to no valid attachment", async () => {
  const before = routing();
  await add();
  const gc = { cniVersion: "1.1.0", name: "net1", type: "sbr", "cni.dev/valid-attachments": [] };
  expect(await host.call(sbr, "GC", gc)).toMatchObject({ exitCode: 0 });
  expect(routing()).toBe(before);
});

testWith(["multipath"], "a route that has several ways through the interface is moved as it is", async () => {
  const before = routing();
  container.run("ip route add 203.0.113.0/24 nexthop via 10.1.0.5 weight 2 nexthop via 10.1.0.6");
  const withWays = routing();
  expect(withWays).not.toBe(before);
  await add();
  expect(container.run("ip route show table 100")).toMatch(
    /203\.0\.113\.0\/24\s+nexthop via 10\.1\.0\.5 dev eth1 weight 2\s+nexthop via 10\.1\.0\.6 dev eth1 weight 1/,
  );
  await del();
  expect(routing()).toBe(withWays);
});
