import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { hostLocal } from "#plugins/host-local/main.ts";
import { staticIpam } from "#plugins/static/main.ts";
import { isAnswered } from "#testing/echo.ts";
import { type Answer, TestHost, type VerbArguments } from "#testing/plugin-host.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { askOnce, startServer } from "#testing/traffic.ts";
import { ptp } from "./main.ts";

let rig: TestHost;
let stops: (() => void)[] = [];

beforeEach(() => {
  rig = new TestHost("ptp", { plugins: { "host-local": hostLocal, static: staticIpam } });
});
afterEach(async () => {
  for (const stop of stops) stop();
  stops = [];
  await rig.close();
});

const ipam = {
  type: "host-local",
  ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]],
  routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
};
const config = (extra: JsonObject = {}): JsonObject => ({
  cniVersion: "1.1.0",
  name: "net1",
  type: "ptp",
  ipam,
  ...extra,
});

async function call(verb: Verb, json: JsonObject, more: VerbArguments = {}): Promise<Answer> {
  return await rig.call(ptp, verb, json, { containerId: "c1", ifName: "eth0", ...more });
}

interface Added {
  readonly container: TestNamespace;
  readonly result: JsonObject & {
    readonly interfaces: readonly { name: string; mac: string; mtu: number; sandbox?: string }[];
    readonly ips: readonly { interface: number; address: string; gateway: string }[];
  };
  readonly json: JsonObject;
  readonly containerId: string;
}

async function added(json: JsonObject = config(), more: VerbArguments = {}): Promise<Added> {
  const container = rig.container();
  const containerId = more.containerId ?? "c1";
  const answer = await call("ADD", json, { netns: container.path, ...more, containerId });
  expect(answer.json, answer.stderr).not.toHaveProperty("code");
  return { container, result: answer.json as never, json, containerId };
}

const done = { exitCode: 0, json: {} };

const names = (namespace: TestNamespace) =>
  namespace
    .json<{ ifname: string }>("ip -j link")
    .map(({ ifname }) => ifname)
    .filter((name) => name !== "lo");

/** `10.1.0.1 dev eth0 scope link src 10.1.0.2` and so on, without what the kernel makes by itself. */
function routes(namespace: TestNamespace): readonly string[] {
  return namespace
    .run("ip route show; ip -6 route show")
    .split("\n")
    .map((line) => line.replace(/ (proto \S+|metric \d+|pref medium)/g, "").trim())
    .filter((line) => line !== "" && !line.includes("fe80::/64"))
    .sort();
}

describe("ADD", () => {
  test("gives both families a link of two, by which the host, and what is behind it, are reached", async () => {
    const { container, result } = await added(config({ mtu: 1400 }));
    expect(result).toMatchObject({
      interfaces: [
        { name: expect.stringMatching(/^veth[0-9a-f]{8}$/), mtu: 1400 },
        { name: "eth0", mtu: 1400, sandbox: container.path },
      ],
      ips: [
        { interface: 1, address: "10.1.0.2/24", gateway: "10.1.0.1" },
        { interface: 1, address: "fd00:1::2/64", gateway: "fd00:1::1" },
      ],
      routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
    });
    const host = result.interfaces[0]?.name;
    expect(routes(container)).toEqual([
      "10.1.0.0/24 via 10.1.0.1 dev eth0 src 10.1.0.2",
      "10.1.0.1 dev eth0 scope link src 10.1.0.2",
      "default via 10.1.0.1 dev eth0",
      "default via fd00:1::1 dev eth0",
      "fd00:1::/64 via fd00:1::1 dev eth0 src fd00:1::2",
      "fd00:1::1 dev eth0 src fd00:1::2",
    ]);
    expect(routes(rig.namespace)).toEqual([
      `10.1.0.2 dev ${host} scope link`,
      `fd00:1::1 dev ${host}`,
      `fd00:1::2 dev ${host}`,
    ]);
    for (const address of ["10.1.0.1", "fd00:1::1"]) expect(isAnswered(container, address)).toBe(true);
    for (const address of ["10.1.0.2", "fd00:1::2"]) expect(isAnswered(rig.namespace, address)).toBe(true);
  });

  test("lets containers of one subnet reach each other by way of the host", async () => {
    const first = await added();
    await added(config(), { containerId: "c2" });
    expect(isAnswered(first.container, "10.1.0.3")).toBe(true);
    expect(isAnswered(first.container, "fd00:1::3")).toBe(true);
  });

  test("makes up a gateway where the IPAM plugin has none, and serves single addresses", async () => {
    const { container } = await added(
      config({
        ipam: { type: "static", addresses: [{ address: "10.1.0.9/24" }], routes: ipam.routes.slice(0, 1) },
      }),
    );
    expect(isAnswered(container, "10.1.0.1")).toBe(true);
    const single = { address: "10.2.0.5/32", gateway: "169.254.1.1" };
    const alone = await added(
      config({ name: "net2", ipam: { type: "static", addresses: [single], routes: [{ dst: "0.0.0.0/0" }] } }),
      { containerId: "c2" },
    );
    expect(routes(alone.container)).toEqual([
      "169.254.1.1 dev eth0 scope link src 10.2.0.5",
      "default via 169.254.1.1 dev eth0",
    ]);
    expect(isAnswered(alone.container, "10.1.0.9")).toBe(true);
  });

  test("takes a MAC address and a dns of its own", async () => {
    const { result } = await added(
      config({ dns: { nameservers: ["10.9.0.1"] }, runtimeConfig: { mac: "02:00:00:00:00:05" } }),
    );
    expect(result).toMatchObject({
      dns: { nameservers: ["10.9.0.1"] },
      interfaces: [{}, { mac: "02:00:00:00:00:05" }],
    });
  });

  test.each(["nftables", "iptables"])(
    "with ipMasq hides the container behind the host, but not from its subnet (%s)",
    async (backend) => {
      const outside = rig.container("outside");
      rig.namespace.run(
        `ip link add up0 type veth peer name far0 netns ${outside.name}; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0`,
      );
      outside.run("ip link set far0 up; ip addr add 192.0.2.2/24 dev far0");
      stops.push(await startServer(outside, "outside", [7000]));
      const json = config({ ipMasq: true, ipMasqBackend: backend, insistOnBackend: true });
      const one = await added(json);
      const two = await added(json, { containerId: "c2" });
      stops.push(await startServer(two.container, "two", [7000]));
      const question = { protocol: "tcp", port: 7000 } as const;
      expect(await askOnce(one.container, { ...question, to: "192.0.2.2" })).toBe("outside sees 192.0.2.1");
      expect(await askOnce(one.container, { ...question, to: "10.1.0.3" })).toBe("two sees 10.1.0.2");
      const check = { ...json, prevResult: one.result };
      expect(await call("CHECK", check, { netns: one.container.path })).toMatchObject(done);
      for (const { containerId, container } of [one, two]) {
        expect(await call("DEL", json, { containerId, netns: container.path })).toMatchObject(done);
      }
      const left = rig.namespace.run("nft list ruleset");
      expect(left).not.toMatch(/10\.1\.0\.[23]|CNI-[0-9a-f]{8}/);
    },
  );

  test("that fails leaves nothing, not even the address", async () => {
    rig.namespace.run("ip link add far0 type bridge; ip link set far0 up; ip route add 10.1.0.2/32 dev far0");
    const container = rig.container();
    const answer = await call("ADD", config({ ipMasq: true }), { netns: container.path });
    expect(answer.json).toMatchObject({ code: 7, msg: expect.stringContaining("10.1.0.2/32") });
    expect(names(rig.namespace)).toEqual(["far0"]);
    expect(names(container)).toEqual([]);
    expect(rig.host.journal.list()).toEqual([]);
    expect(rig.namespace.run("cat /proc/sys/net/ipv4/ip_forward").trim()).toBe("0");
    rig.namespace.run("ip route del 10.1.0.2/32");
    expect((await added(config(), { containerId: "c3" })).result.ips[0]?.address).toBe("10.1.0.3/24");
  });

  test("refuses what can't work, each with its field", async () => {
    const of = (addresses: JsonObject[], more: JsonObject = {}) => ({
      ipam: { type: "static", addresses, ...more },
    });
    const wrong: [JsonObject, RegExp][] = [
      [{ ipam: {} }, /ipam\.type/],
      [{ mtu: 60 }, /"mtu" 60/],
      [{ mtu: 1000 }, /at least 1280/],
      [{ ipMasqBackend: "x" }, /ipMasqBackend/],
      [of([{ address: "10.1.0.5/24", gateway: "10.1.0.5" }]), /own address/],
      [of([{ address: "10.1.0.5/32", gateway: "0.0.0.0" }]), /gateway/],
      [of([{ address: "10.1.0.5/24" }], { routes: [{ dst: "10.9.0.0/16", gw: "10.8.0.1" }] }), /10\.8\.0\.1/],
    ];
    for (const [extra, text] of wrong) {
      const { json } = await call("ADD", config(extra), { netns: rig.container().path });
      expect(json, JSON.stringify(extra)).toMatchObject({ code: 7, msg: expect.stringMatching(text) });
    }
    expect(names(rig.namespace)).toEqual([]);
  });

  test("again answers as the first one did, and refuses a name that is taken", async () => {
    const first = await added();
    const again = await call("ADD", config(), { netns: first.container.path });
    expect(again.json).toEqual(first.result);
    const other = rig.container();
    other.run("ip link add eth0 type bridge");
    expect((await call("ADD", config(), { containerId: "c2", netns: other.path })).json).toMatchObject({
      code: 4,
    });
  });
});

describe("DEL", () => {
  test("leaves nothing, with a namespace or without", async () => {
    for (const netns of ["its own", "", "gone"]) {
      const json = config({ ipMasq: true });
      const { container } = await added(json);
      if (netns === "gone") container.remove();
      const path = netns === "" ? "" : container.path;
      for (let time = 0; time < 2; time++) {
        expect(await call("DEL", json, { netns: path })).toMatchObject(done);
      }
      expect(names(rig.namespace)).toEqual([]);
      expect(rig.namespace.run("nft list ruleset")).not.toContain("c1");
      expect(rig.host.journal.list()).toEqual([]);
    }
  });

  test("without a record finds the veth by the result", async () => {
    const { container, result, json } = await added();
    rig.host.journal.remove({ network: "net1", containerId: "c1", ifName: "eth0" }, "ptp");
    const [outside] = result.interfaces;
    rig.namespace.run(`ip link set ${outside?.name} down; ip link set ${outside?.name} name drawn0`);
    const prevResult = {
      ...result,
      interfaces: [{ ...outside, name: "drawn0" }, result.interfaces[1]],
    } as unknown as JsonObject;
    expect(await call("DEL", { ...json, prevResult }, { netns: "" })).toMatchObject(done);
    expect(names(rig.namespace)).toEqual([]);
    expect(names(container)).toEqual([]);
  });
});

test("CHECK names whatever is missing", async () => {
  const { container, result, json } = await added(config({ ipMasq: true }));
  const veth = result.interfaces[0]?.name ?? "";
  const check = async () =>
    (await call("CHECK", { ...json, prevResult: result }, { netns: container.path })).json["msg"];
  expect(await check()).toBeUndefined();
  container.run("ip route del 10.1.0.0/24");
  expect(await check()).toContain("route 10.1.0.0/24 via 10.1.0.1 is gone");
  rig.namespace.run(`ip route del 10.1.0.2/32; ip addr del 10.1.0.1/32 dev ${veth}`);
  expect(await check()).toMatch(/gateway address 10\.1\.0\.1\/32.*route 10\.1\.0\.2\/32/);
  rig.namespace.run("nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward");
  expect(await check()).toMatch(/does not forward IPv4.*nftables/);
  rig.namespace.run(`ip link del ${veth}`);
  expect(await check()).toContain("is gone");
});

test("GC removes what is stale, and keeps the rest", async () => {
  const kept = await added(config({ ipMasq: true }));
  const gone = await added(config({ ipMasq: true }), { containerId: "c2" });
  const valid = { "cni.dev/valid-attachments": [{ containerID: "c1", ifname: "eth0" }] };
  expect(await call("GC", { ...config({ ipMasq: true }), ...valid })).toMatchObject(done);
  expect(names(kept.container)).toEqual(["eth0"]);
  expect(names(gone.container)).toEqual([]);
  expect(names(rig.namespace)).toHaveLength(1);
  expect(await call("STATUS", config({ ipMasq: true }))).toMatchObject(done);
});
