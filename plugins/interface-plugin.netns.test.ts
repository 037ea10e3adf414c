import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { withCrashPoints } from "#machine/crash-point.ts";
import { LanRig } from "#testing/lan-rig.ts";
import { type Feature, testWith } from "#testing/requires.ts";
import { dummy } from "./dummy/main.ts";
import { ipvlan } from "./ipvlan/main.ts";
import { macvlan } from "./macvlan/main.ts";
import { ptp } from "./ptp/main.ts";
import type { SuitePlugin } from "./upkeep.ts";
import { vlan } from "./vlan/main.ts";

let rig: LanRig | undefined;

beforeEach(() => {
  // Crash points do nothing unless a program is built for them; here they can make a step fail.
  vi.stubGlobal("NETCTL_FAULTS", true);
});
afterEach(async () => {
  vi.unstubAllGlobals();
  await rig?.close();
  rig = undefined;
});

const ipam = {
  type: "host-local",
  ranges: [
    [{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.10" }],
    [{ subnet: "fd00:1::/64", rangeStart: "fd00:1::10" }],
  ],
};
const enabledad = false;

const networks: readonly (readonly [string, SuitePlugin, JsonObject, readonly Feature[]])[] = [
  ["macvlan with host access", macvlan, { master: "up0", hostAccess: true, enabledad }, []],
  ["macvlan of an internal network", macvlan, { internal: true, enabledad }, []],
  ["macvlan on a VLAN's interface", macvlan, { master: "up0.10", hostAccess: true, enabledad }, ["8021q"]],
  ["ipvlan", ipvlan, { master: "up0", enabledad }, ["ipvlan"]],
  ["vlan", vlan, { master: "up0", vlanId: 7, enabledad }, ["8021q"]],
  ["dummy", dummy, {}, ["dummy"]],
  ["ptp", ptp, {}, []],
];

/** Runs a verb that fails at one point; says which it has passed. */
async function striking(point: string | undefined, work: () => Promise<unknown>): Promise<readonly string[]> {
  const trace = join(rig?.directory ?? "", "trace");
  rmSync(trace, { force: true });
  const environment = {
    NETCTL_FAULT_TRACE: trace,
    ...(point === undefined ? {} : { NETCTL_FAIL_AT: point }),
  };
  await withCrashPoints("standalone", environment, work);
  return readFileSync(trace, "utf8").split("\n").filter(Boolean);
}

describe.each(networks)("%s", (_, plugin, extra, features) => {
  testWith(features, "an ADD that fails at any step leaves host and container as they were", async () => {
    const host = (rig = new LanRig(plugin));
    const config = host.config({ ipam, ...extra });
    const attach = async (netns: string) => await host.add(config, { netns });
    const first = host.container();
    // What the first of a host makes and leaves for the others, such as tables, is no step of the second.
    await attach(first.path);
    await host.detach({ containerId: "c1", config });
    const points = (await striking(undefined, () => attach(first.path)))
      // Nothing of the plugin's comes between the record and what can take it back.
      .filter((point) => !point.endsWith("/journal-begun"));
    await host.detach({ containerId: "c1", config });
    expect(points.length).toBeGreaterThan(4);
    const before = host.snapshot();
    for (const point of points) {
      const container = host.container();
      let failed: unknown;
      await striking(point, async () => (failed = (await attach(container.path)).json));
      expect(failed, point).toMatchObject({ msg: expect.stringContaining("a made-up failure") });
      expect(host.links(container), point).toEqual(["lo"]);
      expect(host.snapshot(), point).toEqual(before);
      container.remove();
    }
  });

  testWith(features, "a DEL that fails at any step is done by the next one", async () => {
    const host = (rig = new LanRig(plugin));
    const config = host.config({ ipam, ...extra });
    const detach = async () =>
      await host.call(plugin, "DEL", config, { containerId: "c1", ifName: "eth0", netns: "" });
    const attach = async () => {
      const container = host.container();
      expect((await host.add(config, { netns: container.path })).json).not.toHaveProperty("code");
      return container;
    };
    await attach();
    const points = await striking(undefined, detach);
    expect(points.length).toBeGreaterThan(2);
    const before = host.snapshot();
    for (const point of points) {
      const container = await attach();
      await striking(point, detach);
      expect((await detach()).json, point).toEqual({});
      expect(host.links(container), point).toEqual(["lo"]);
      expect(host.snapshot(), point).toEqual(before);
      container.remove();
    }
  });
});

test("an attachment of before a reboot gives its addresses back and touches no namespace of today", async () => {
  const host = (rig = new LanRig(macvlan));
  const one = await host.attach({ master: "up0", ipam, enabledad });
  host.replace({ bootId: "00000000-0000-0000-0000-00000000000b" });
  await host.detach(one, { netns: one.container.path });
  expect(host.links(one.container)).toContain("eth0");
  expect(host.files()).toEqual([]);
});

test("a DEL without a record takes no interface that another network has recorded", async () => {
  const host = (rig = new LanRig(macvlan));
  const one = await host.attach({ master: "up0", ipam, enabledad });
  // As of an attachment whose record is lost: the runtime remembers the same interface.
  const other = { ...one.config, name: "another" };
  const call = { containerId: one.containerId, ifName: "eth0", netns: one.container.path };
  const detached = async () =>
    (await host.call(macvlan, "DEL", { ...other, prevResult: one.result as unknown as JsonObject }, call))
      .json;
  expect(await detached()).toEqual({});
  expect(host.links(one.container)).toContain("eth0");
  for (const { key, plugin } of host.host.journal.list()) host.host.journal.remove(key, plugin);
  expect(await detached()).toEqual({});
  expect(host.links(one.container)).not.toContain("eth0");
});
