import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { type Answer, TestHost, type VerbArguments } from "#testing/plugin-host.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { allowlistPath } from "./allowlist.ts";
import { tuning } from "./main.ts";

let host: TestHost;
let container: TestNamespace;
let original: Link;

interface Link {
  readonly address: string;
  readonly mtu: number;
  readonly txqlen: number;
  readonly flags: readonly string[];
}

const newMac = "02:00:00:00:00:0a";

beforeEach(() => {
  host = new TestHost("tuning");
  container = host.container();
  container.run("ip link add eth0 type veth peer name far0; ip link set eth0 up; ip link set far0 up");
  original = link();
});

afterEach(async () => {
  await host.close();
});

function link(): Link {
  const [found] = container.json<Link>("ip -j link show dev eth0");
  if (!found) throw new Error("eth0 is not there");
  const { address, mtu, txqlen, flags } = found;
  return { address, mtu, txqlen, flags };
}

function sysctl(key: string): string {
  return container.run(`cat /proc/sys/${key}`).trim();
}

const prevResult = (): JsonObject => ({
  cniVersion: "1.1.0",
  interfaces: [
    { name: "br0", mac: "02:00:00:00:00:01" },
    { name: "eth0", mac: original.address, mtu: 1500, sandbox: container.path },
    { name: "eth0", mac: "02:00:00:00:00:02" },
  ],
  ips: [{ address: "10.1.0.2/24", interface: 1 }],
});

async function call(verb: Verb, fields: JsonObject = {}, args: VerbArguments = {}): Promise<Answer> {
  const config = { cniVersion: "1.1.0", name: "net1", type: "tuning", prevResult: prevResult(), ...fields };
  return await host.call(tuning, verb, config, {
    containerId: "c1",
    ifName: "eth0",
    netns: container.path,
    ...args,
  });
}

async function add(fields: JsonObject): Promise<JsonObject> {
  const { json } = await call("ADD", fields);
  expect(json).not.toHaveProperty("code");
  return json;
}

/** As a runtime that has forgotten everything. */
async function del(args: VerbArguments = { netns: "" }, fields: JsonObject = {}): Promise<void> {
  const config = { cniVersion: "1.1.0", name: "net1", type: "tuning", ...fields };
  const answer = await host.call(tuning, "DEL", config, { containerId: "c1", ifName: "eth0", ...args });
  expect(answer).toMatchObject({ exitCode: 0, json: {} });
}

const everything: JsonObject = {
  mac: newMac,
  mtu: 1400,
  promisc: true,
  allmulti: true,
  txQLen: 77,
  sysctl: {
    "net.core.somaxconn": "500",
    "net.ipv4.conf.IFNAME.arp_filter": "1",
    "net.ipv4.tcp_rmem": "4096 8192 16384",
  },
};

test("ADD sets what is configured and says so; DEL puts all of it back, without netns and result", async () => {
  const before = ["net/core/somaxconn", "net/ipv4/conf/eth0/arp_filter", "net/ipv4/tcp_rmem"].map(sysctl);
  const result = await add(everything);
  expect(link()).toMatchObject({ address: newMac, mtu: 1400, txqlen: 77 });
  expect(link().flags).toEqual(expect.arrayContaining(["PROMISC", "ALLMULTI", "UP"]));
  expect(sysctl("net/core/somaxconn")).toBe("500");
  expect(sysctl("net/ipv4/conf/eth0/arp_filter")).toBe("1");
  expect(result["interfaces"]).toEqual([
    { name: "br0", mac: "02:00:00:00:00:01" },
    { name: "eth0", mac: newMac, mtu: 1400, sandbox: container.path },
    { name: "eth0", mac: "02:00:00:00:00:02" },
  ]);
  expect(await call("CHECK", everything)).toMatchObject({ exitCode: 0, json: {} });
  await del();
  expect(link()).toEqual(original);
  expect(["net/core/somaxconn", "net/ipv4/conf/eth0/arp_filter", "net/ipv4/tcp_rmem"].map(sysctl)).toEqual(
    before,
  );
  expect(host.host.journal.list()).toEqual([]);
  await del();
});

test("ADD changes nothing of the host, and nothing that is as it should be", async () => {
  const before = host.namespace.run("ip -j link; cat /proc/sys/net/core/somaxconn");
  expect(
    await add({ mtu: original.mtu, sysctl: { "net.core.somaxconn": sysctl("net/core/somaxconn") } }),
  ).toEqual(prevResult());
  expect(host.host.journal.list()).toEqual([]);
  await add(everything);
  expect(host.namespace.run("ip -j link; cat /proc/sys/net/core/somaxconn")).toBe(before);
});

test("without an interface, sysctls alone can be set", async () => {
  container.run("ip link del eth0");
  await add({ sysctl: { "net.core.somaxconn": "500" } });
  expect(sysctl("net/core/somaxconn")).toBe("500");
  const { json } = await call("ADD", { mtu: 1400 });
  expect(json).toMatchObject({ code: 4, msg: expect.stringContaining('"eth0"') });
  await del();
  expect(sysctl("net/core/somaxconn")).not.toBe("500");
});

test("a repeated ADD, and another of the same list, still lead back to how it was at first", async () => {
  await add({ mtu: 1400, sysctl: { "net.core.somaxconn": "500" } });
  await add({ mtu: 1400, sysctl: { "net.core.somaxconn": "500" } });
  await add({
    mtu: 1300,
    txQLen: 5,
    sysctl: { "net.core.somaxconn": "600", "net.ipv4.ip_default_ttl": "9" },
  });
  expect(link()).toMatchObject({ mtu: 1300, txqlen: 5 });
  await del();
  expect(link()).toEqual(original);
  expect(sysctl("net/core/somaxconn")).not.toMatch(/^[56]00$/);
  expect(sysctl("net/ipv4/ip_default_ttl")).toBe("64");
});

test("an ADD that fails in the middle leaves everything as it was", async () => {
  const before = sysctl("net/core/somaxconn");
  const failing: readonly [JsonObject, number, RegExp][] = [
    [
      { ...everything, sysctl: { "net.core.somaxconn": "500", "net.ipv4.ip_forward": "many" } },
      7,
      /ip_forward.*many/,
    ],
    [
      { ...everything, sysctl: { "net.core.somaxconn": "500", "net.core.nonsense": "1" } },
      7,
      /net.core.nonsense/,
    ],
    [{ ...everything, mtu: 70_000 }, 7, /"mtu" 70000.*68 to 65535/],
  ];
  for (const [fields, code, msg] of failing) {
    const { json } = await call("ADD", fields);
    expect(json).toMatchObject({ code, msg: expect.stringMatching(msg) });
    expect(link()).toEqual(original);
    expect(sysctl("net/core/somaxconn")).toBe(before);
    expect(host.host.journal.list()).toEqual([]);
  }
});

test("ADD without a result of the plugins before is refused", async () => {
  const { json } = await host.call(
    tuning,
    "ADD",
    { cniVersion: "1.1.0", name: "net1", type: "tuning" },
    { containerId: "c1", ifName: "eth0", netns: container.path },
  );
  expect(json).toMatchObject({ code: 7, msg: "Required prevResult missing" });
});

test("CHECK names everything that has been changed", async () => {
  await add(everything);
  container.run("ip link set eth0 mtu 1450 promisc off; echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_filter");
  const { json } = await call("CHECK", everything);
  expect(json["msg"]).toBe(
    'sysctl net.ipv4.conf.IFNAME.arp_filter is 0, not 1; mtu of "eth0" is 1450, not 1400; promisc of "eth0" is false, not true',
  );
});

test("DEL leaves an interface alone that has taken the other one's place", async () => {
  await add({ mtu: 1400 });
  container.run("ip link del eth0; ip link add eth0 mtu 1350 type veth peer name far0");
  await del();
  expect(link().mtu).toBe(1350);
});

test("DEL with a namespace that is gone, or another one, forgets the attachment", async () => {
  await add({ mtu: 1400 });
  const other = host.container("other");
  other.run("ip link add eth0 mtu 1350 type veth peer name far0");
  container.remove();
  await del({ netns: other.path });
  expect(other.json("ip -j link show dev eth0")).toMatchObject([{ mtu: 1350 }]);
  expect(host.host.journal.list()).toEqual([]);
});

test("GC takes back what belongs to no valid attachment", async () => {
  await add({ mtu: 1400 });
  const gc = (attachments: JsonObject[]) =>
    host.call(tuning, "GC", {
      cniVersion: "1.1.0",
      name: "net1",
      type: "tuning",
      "cni.dev/valid-attachments": attachments,
    });
  expect(await gc([{ containerID: "c1", ifname: "eth0" }])).toMatchObject({ exitCode: 0 });
  expect(link().mtu).toBe(1400);
  expect(await gc([])).toMatchObject({ exitCode: 0 });
  expect(link().mtu).toBe(1500);
  expect(host.host.journal.list()).toEqual([]);
});

test("STATUS and ADD refuse what the host's administrator has not allowed", async () => {
  const path = allowlistPath(host.host.directories);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, "net.ipv4.*\n");
  for (const verb of ["STATUS", "ADD"] as const) {
    expect(await call(verb, { sysctl: { "net.ipv4.ip_default_ttl": "9" } })).toMatchObject({ exitCode: 0 });
    const { json } = await call(verb, { sysctl: { "net.core.somaxconn": "500" } });
    expect(json).toMatchObject({
      code: 7,
      msg: expect.stringContaining("Sysctl net.core.somaxconn is not allowed"),
    });
  }
});

test("DEL of a container that the reference plugin has attached uses its backup", async () => {
  const dataDir = join(host.directory, "tuning-data");
  mkdirSync(dataDir);
  const backup = join(dataDir, "c1_eth0.json");
  writeFileSync(
    backup,
    JSON.stringify({ mac: original.address, mtu: 1500, promisc: false, txQLen: original.txqlen }),
  );
  container.run(`ip link set eth0 address ${newMac} mtu 1400 promisc on txqueuelen 3`);
  await del({ netns: container.path }, { dataDir });
  expect(link()).toEqual(original);
  expect(existsSync(backup)).toBe(false);
});

test("a hundred sysctls at once", async () => {
  const keys = container
    .run("cd /proc/sys; grep -lx 0 net/ipv4/conf/*/[a-o]* net/ipv6/conf/*/[a-c]*")
    .trim()
    .split("\n")
    .filter((key) => !/mc_forwarding|forwarding|accept_ra_rt/.test(key))
    .slice(0, 100);
  expect(keys.length).toBeGreaterThan(40);
  const flags = keys.filter((key) => /\/(arp_|accept_l|accept_s|bootp|log_m|accept_u)/.test(key));
  expect(flags.length).toBeGreaterThan(32);
  await add({ sysctl: Object.fromEntries(flags.map((key) => [key, "1"])) });
  expect(flags.map(sysctl)).toEqual(flags.map(() => "1"));
  await del();
  expect(flags.map(sysctl)).toEqual(flags.map(() => "0"));
});
