import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { hostLocal } from "#plugins/host-local/main.ts";
import { type Answer, TestHost, type VerbArguments } from "#testing/plugin-host.ts";
import { testWith } from "#testing/requires.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { tap } from "./main.ts";

let rig: TestHost;
let container: TestNamespace;

beforeEach(() => {
  rig = new TestHost("tap", { plugins: { "host-local": hostLocal } });
  container = rig.container();
});
afterEach(() => rig.close());

const ipam = { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]] };
const config = (extra: JsonObject = {}): JsonObject => ({
  cniVersion: "1.1.0",
  name: "net1",
  type: "tap",
  ...extra,
});

async function call(verb: Verb, json: JsonObject = config(), more: VerbArguments = {}): Promise<Answer> {
  return await rig.call(tap, verb, json, {
    containerId: "c1",
    ifName: "tap0",
    netns: container.path,
    ...more,
  });
}

async function added(json: JsonObject = config(), more: VerbArguments = {}): Promise<JsonObject> {
  const answer = await call("ADD", json, more);
  expect(answer.json, answer.stderr).not.toHaveProperty("code");
  return answer.json;
}

const done = { exitCode: 0, json: {} };

interface Seen {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly master?: string;
  readonly flags: readonly string[];
  readonly linkinfo: { readonly info_kind: string; readonly info_data: JsonObject };
}

function link(): Seen {
  const [found] = container.json<Seen>("ip -d -j link show tap0");
  if (!found) throw new Error("tap0 is not there");
  return found;
}

describe("ADD", () => {
  testWith(["tun"], "makes a tap device that stays, with every field", async () => {
    container.run("ip link add br0 type bridge; ip link set br0 up");
    const result = await added(
      config({
        multiQueue: true,
        owner: 54321,
        group: 54322,
        mtu: 1400,
        mac: "02:00:00:00:00:05",
        bridge: "br0",
        selinuxContext: "system_u:object_r:container_t:s0",
      }),
    );
    expect(result).toMatchObject({
      interfaces: [{ name: "tap0", mac: "02:00:00:00:00:05", mtu: 1400, sandbox: container.path }],
    });
    expect(link()).toMatchObject({
      address: "02:00:00:00:00:05",
      mtu: 1400,
      master: "br0",
      flags: expect.arrayContaining(["UP"]),
      linkinfo: {
        info_kind: "tun",
        info_data: { type: "tap", multi_queue: true, user: 54321, group: 54322, persist: true },
      },
    });
  });

  testWith(["tun"], "takes the MAC address of the runtime, and addresses of both families", async () => {
    const result = await added(
      config({ ipam, mac: "02:00:00:00:00:05", runtimeConfig: { mac: "02:00:00:00:00:06" } }),
    );
    expect(result).toMatchObject({
      interfaces: [{ mac: "02:00:00:00:00:06" }],
      ips: [
        { interface: 0, address: "10.1.0.2/24" },
        { interface: 0, address: "fd00:1::2/64" },
      ],
    });
    expect(container.run("ip addr show dev tap0")).toMatch(/10\.1\.0\.2\/24[^]*fd00:1::2\/64/);
    expect(await call("CHECK", config({ ipam, prevResult: result }))).toMatchObject(done);
  });

  testWith(["tun"], "takes the MAC address of CNI_ARGS before that of the configuration", async () => {
    const args = { args: "IgnoreUnknown=1;MAC=02:00:00:00:00:07" };
    await added(config({ mac: "02:00:00:00:00:05" }), args);
    expect(link().address).toBe("02:00:00:00:00:07");
  });

  testWith(["tun"], "that fails leaves nothing", async () => {
    const broken = config({ ipam: { type: "host-local", subnet: "10.1.0.0/24", rangeStart: "10.9.0.1" } });
    expect((await call("ADD", broken)).json).toMatchObject({ code: 7 });
    expect(container.run("ip -o link")).not.toContain("tap0");
    expect(rig.host.journal.list()).toEqual([]);
  });

  test("refuses what can't be, each with its field", async () => {
    const wrong: [JsonObject, RegExp][] = [
      [{ owner: -1 }, /owner/],
      [{ group: 4294967295 }, /group/],
      [{ mtu: 60 }, /"mtu" 60/],
      [{ bridge: "br9" }, /"br9"/],
      [{ bridge: "lo" }, /not a bridge/],
      [{ selinuxContext: "--help" }, /selinuxContext/],
      [{ mac: "01:00:00:00:00:05" }, /group/],
    ];
    for (const [extra, text] of wrong)
      expect((await call("ADD", config(extra))).json, JSON.stringify(extra)).toMatchObject({
        code: 7,
        msg: expect.stringMatching(text),
      });
    container.run("ip link add tap0 type bridge");
    expect((await call("ADD")).json).toMatchObject({ code: 4, msg: expect.stringContaining("tap0") });
  });
});

testWith(["tun"], "DEL removes it, with a namespace or without, any number of times", async () => {
  for (const netns of [container.path, ""]) {
    await added(config({ ipam }));
    for (let time = 0; time < 2; time++) {
      expect(await call("DEL", config({ ipam }), { netns })).toMatchObject(done);
    }
    expect(container.run("ip -o link")).not.toContain("tap0");
    expect(rig.host.journal.list()).toEqual([]);
  }
});

testWith(["tun"], "CHECK names what differs; GC removes what is stale", async () => {
  const json = config({ owner: 54321, multiQueue: true });
  const result = await added(json);
  const check = async () => (await call("CHECK", { ...json, prevResult: result })).json["msg"];
  expect(await check()).toBeUndefined();
  container.run("ip link set tap0 down; ip link del tap0; ip tuntap add tap0 mode tap user 1");
  expect(await check()).toMatch(/down.*owner 1 instead of 54321.*one queue/);
  expect(await call("GC", { ...json, "cni.dev/valid-attachments": [] })).toMatchObject(done);
  expect(container.run("ip -o link")).not.toContain("tap0");
  expect(await call("STATUS", json)).toMatchObject(done);
});
