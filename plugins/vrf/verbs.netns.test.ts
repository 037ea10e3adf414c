import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { type Answer, TestHost, type VerbArguments } from "#testing/plugin-host.ts";
import { hasFeature, testWith } from "#testing/requires.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { vrf } from "./main.ts";

let host: TestHost;
let container: TestNamespace;

beforeEach(() => {
  host = new TestHost("vrf");
  container = host.container();
  container.run(`
    for i in 0 1; do
      ip link add eth$i type veth peer name far$i; ip link set eth$i up; ip link set far$i up
      ip addr add 10.$i.0.2/24 dev eth$i; ip addr add fd00:$i::2/64 dev eth$i nodad
    done
    ip route add 198.51.100.0/24 via 10.0.0.1 dev eth0 metric 7; ip -6 route add 2001:db8::/32 via fd00::1 dev eth0`);
});

afterEach(async () => {
  await host.close();
});

const prevResult = (): JsonObject => ({
  cniVersion: "1.1.0",
  interfaces: [{ name: "eth0", sandbox: container.path }],
  ips: [{ address: "10.0.0.2/24", interface: 0 }],
});

async function call(verb: Verb, fields: JsonObject = {}, args: VerbArguments = {}): Promise<Answer> {
  const config = {
    cniVersion: "1.1.0",
    name: "net1",
    type: "vrf",
    vrfname: "blue",
    prevResult: prevResult(),
    ...fields,
  };
  return await host.call(vrf, verb, config, {
    containerId: "c1",
    ifName: "eth0",
    netns: container.path,
    ...args,
  });
}

async function add(fields: JsonObject = {}, args: VerbArguments = {}): Promise<void> {
  expect((await call("ADD", fields, args)).json).toEqual(prevResult());
}

/** As a runtime that has forgotten everything. */
async function del(args: VerbArguments = { netns: "" }): Promise<void> {
  const config = { cniVersion: "1.1.0", name: "net1", type: "vrf" };
  const answer = await host.call(vrf, "DEL", config, { containerId: "c1", ifName: "eth0", ...args });
  expect(answer).toMatchObject({ exitCode: 0, json: {} });
}

interface IpLink {
  readonly ifname: string;
  readonly master?: string;
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: { readonly table?: number } };
}

function links(): readonly IpLink[] {
  return container.json<IpLink>("ip -d -j link");
}

/** Name and table of each VRF: `blue 1`. */
function vrfs(): string[] {
  return links()
    .filter(({ linkinfo }) => linkinfo?.info_kind === "vrf")
    .map(({ ifname, linkinfo }) => `${ifname} ${linkinfo?.info_data?.table}`);
}

function masterOf(name: string): string | undefined {
  return links().find(({ ifname }) => ifname === name)?.master;
}

function addressing(): string[] {
  const script =
    "ip -o addr show dev eth0 scope global; ip route show dev eth0; ip -6 route show dev eth0 | grep -v fe80";
  return container
    .run(script)
    .split("\n")
    .map((line) =>
      line
        .replace(/ valid_lft.*/, "")
        .replace(/^\d+:/, "")
        .trim(),
    )
    .sort();
}

testWith(
  ["vrf"],
  "the interface is in a VRF of its own, with addresses and routes; DEL takes it out",
  async () => {
    const before = addressing();
    await add();
    expect(vrfs()).toEqual(["blue 1"]);
    expect([masterOf("eth0"), masterOf("eth1")]).toEqual(["blue", undefined]);
    const routes = container.run("ip route show vrf blue; ip -6 route show vrf blue");
    expect(routes).toMatch(/198\.51\.100\.0\/24 via 10\.0\.0\.1 dev eth0 metric 7/);
    expect(routes).toMatch(/2001:db8::\/32 via fd00::1 dev eth0/);
    expect(routes).toMatch(/10\.0\.0\.0\/24 dev eth0/);
    expect(container.run("ip -o -6 addr show dev eth0")).toContain("fd00::2/64");
    expect((await call("CHECK")).json).toEqual({});
    await del();
    expect(vrfs()).toEqual([]);
    expect(masterOf("eth0")).toBeUndefined();
    expect(addressing()).toEqual(before);
    expect(host.host.journal.list()).toEqual([]);
    await del();
  },
);

testWith(["vrf"], "two interfaces share it, and the last one removes it", async () => {
  await Promise.all([
    add({ table: 10 }),
    add({}, { ifName: "eth1" }).catch(() => add({}, { ifName: "eth1" })),
  ]);
  expect(vrfs()).toHaveLength(1);
  expect([masterOf("eth0"), masterOf("eth1")]).toEqual(["blue", "blue"]);
  await del();
  expect(vrfs()).toHaveLength(1);
  await del({ ifName: "eth1" });
  expect(vrfs()).toEqual([]);
});

testWith(["vrf"], "tables that another VRF, a route or a rule has are passed over", async () => {
  container.run("ip link add red type vrf table 1; ip route add 192.0.2.0/24 dev eth1 table 2");
  container.run("ip -6 rule add from 2001:db8::/32 table 3");
  await add();
  expect(vrfs()).toEqual(["red 1", "blue 4"]);
});

testWith(["vrf"], "a VRF that was there is joined and left, not removed", async () => {
  container.run("ip link add blue type vrf table 10; ip link set blue up");
  await add();
  expect(masterOf("eth0")).toBe("blue");
  await del();
  expect(vrfs()).toEqual(["blue 10"]);
});

testWith(["vrf"], "what does not fit is refused, and nothing changes", async () => {
  container.run(
    "ip link add blue type vrf table 10; ip link add other type bridge; ip link set eth1 master other",
  );
  const before = container.run("ip -j link; ip route");
  expect((await call("ADD", { table: 11 })).json).toMatchObject({
    code: 7,
    msg: expect.stringContaining("VRF blue already exist with different routing table 10"),
  });
  expect((await call("ADD", {}, { ifName: "eth1" })).json).toMatchObject({
    code: 7,
    msg: "interface eth1 has already a master set: other",
  });
  expect((await call("ADD", { vrfname: "far0" })).json).toMatchObject({
    code: 7,
    msg: expect.stringContaining("far0"),
  });
  expect((await call("ADD", {}, { ifName: "eth7" })).json).toMatchObject({ code: 4 });
  expect((await call("ADD", { prevResult: null })).json).toMatchObject({
    code: 7,
    msg: "missing prevResult from earlier plugin",
  });
  expect(container.run("ip -j link; ip route")).toBe(before);
  expect(host.host.journal.list()).toEqual([]);
});

testWith(["vrf"], "a repeated ADD leaves as much as one", async () => {
  await add();
  await add();
  expect(vrfs()).toEqual(["blue 1"]);
  expect(masterOf("eth0")).toBe("blue");
  await del();
  expect(vrfs()).toEqual([]);
});

testWith(["vrf"], "CHECK names what is otherwise", async () => {
  await add({ table: 10 });
  container.run("ip link set eth0 nomaster");
  expect((await call("CHECK", { table: 10 })).json["msg"]).toBe('interface "eth0" is not in VRF "blue"');
  expect((await call("CHECK", { table: 11 })).json["msg"]).toBe('VRF "blue" has table 10, not 11');
  container.run("ip link del blue");
  expect((await call("CHECK")).json["msg"]).toBe('there is no VRF "blue"');
});

testWith(
  ["vrf"],
  "DEL succeeds when interface or namespace are gone; GC removes what is not valid",
  async () => {
    await add();
    container.run("ip link del eth0");
    await del();
    expect(vrfs()).toEqual([]);
    await add({}, { ifName: "eth1" });
    const gc = { cniVersion: "1.1.0", name: "net1", type: "vrf", "cni.dev/valid-attachments": [] };
    expect(await host.call(vrf, "GC", gc)).toMatchObject({ exitCode: 0 });
    expect(vrfs()).toEqual([]);
    await add({}, { ifName: "eth1" });
    container.remove();
    await del({ ifName: "eth1" });
    expect(host.host.journal.list()).toEqual([]);
  },
);

testWith(
  ["vrf"],
  "DEL of a container that the reference plugin has attached removes the VRF with its last interface",
  async () => {
    container.run("ip link add blue type vrf table 10; ip link set blue up; ip link set eth0 master blue");
    expect(await call("DEL")).toMatchObject({ exitCode: 0 });
    expect(vrfs()).toEqual([]);
  },
);

test("STATUS says whether this kernel knows VRFs, and so does ADD", async () => {
  const before = host.namespace.run("ip -j link");
  const expected = hasFeature("vrf")
    ? { exitCode: 0 }
    : { json: { code: 50, msg: expect.stringContaining("CONFIG_NET_VRF") } };
  expect(await call("STATUS")).toMatchObject(expected);
  expect(await call("ADD")).toMatchObject(expected);
  expect(host.namespace.run("ip -j link")).toBe(before);
  if (!hasFeature("vrf")) expect(host.host.journal.list()).toEqual([]);
});
