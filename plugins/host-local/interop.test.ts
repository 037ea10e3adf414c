import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Outcome } from "#cni/plugin.ts";
import { type BundledChild, bundleChild } from "#testing/bundled-child.ts";
import { callHostLocal, type IpamCall, ipamEnvironment } from "#testing/ipam-host.ts";

/** The reference's host-local: Debian package containernetworking-plugins. */
const reference = "/usr/lib/cni/host-local";

let state: string;
let child: BundledChild;

beforeAll(async () => {
  if (!existsSync(reference))
    throw new Error(`${reference} is missing: apt-get install containernetworking-plugins`);
  child = await bundleChild(`
    import { callHostLocal } from "#testing/ipam-host.ts";
    const { state, config, ids } = JSON.parse(process.argv[2]);
    async function main() {
      const outcomes = [];
      for (const containerId of ids) outcomes.push(await callHostLocal(state, { verb: "ADD", containerId }, config));
      process.stdout.write(JSON.stringify(outcomes));
    }
    void main();
  `);
});
afterAll(() => child.remove());
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), "netctl-interop-"));
});
afterEach(() => rmSync(state, { recursive: true, force: true }));

function config(subnet: string, more: object = {}) {
  const dataDir = join(state, "networks");
  return {
    cniVersion: "1.0.0",
    name: "net1",
    type: "bridge",
    ipam: { type: "host-local", subnet, dataDir },
    ...more,
  };
}

function go(call: IpamCall, conf: object): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { ...ipamEnvironment({ netns: "/nonexistent", ...call }) };
    const process = execFile(reference, { env }, (error, stdout, stderr) => {
      resolve({ exitCode: error ? 1 : 0, stdout, stderr });
    });
    process.stdin?.end(JSON.stringify(conf));
  });
}

const ours = (call: IpamCall, conf: object) => callHostLocal(state, call, conf);

function addressOf(outcome: Outcome): string {
  const json = JSON.parse(outcome.stdout || "{}") as { ips?: { address: string }[]; msg?: string };
  return json.ips?.map(({ address }) => address).join(",") ?? `error: ${json.msg ?? outcome.stderr}`;
}

function leases(): string[] {
  return readdirSync(join(state, "networks", "net1")).filter((name) => /^[0-9a-f]+[.:]/.test(name));
}

describe("on one directory with the reference's host-local", () => {
  test("both go on where the other has stopped, and neither gives what the other has given", async () => {
    const conf = config("10.1.0.0/29");
    expect(addressOf(await ours({ verb: "ADD", containerId: "a" }, conf))).toBe("10.1.0.2/29");
    expect(addressOf(await go({ verb: "ADD", containerId: "b" }, conf))).toBe("10.1.0.3/29");
    expect(addressOf(await ours({ verb: "ADD", containerId: "c" }, conf))).toBe("10.1.0.4/29");
    expect(addressOf(await go({ verb: "ADD", containerId: "d" }, conf))).toBe("10.1.0.5/29");
    await go({ verb: "DEL", containerId: "a" }, conf);
    expect(addressOf(await ours({ verb: "ADD", containerId: "e" }, conf))).toBe("10.1.0.6/29");
    expect(addressOf(await ours({ verb: "ADD", containerId: "f" }, conf))).toBe("10.1.0.2/29");
    for (const each of [ours, go]) {
      expect(addressOf(await each({ verb: "ADD", containerId: "g" }, conf))).toContain(
        "no IP addresses available",
      );
    }
  });

  test("each frees, checks and refuses to repeat what the other has given", async () => {
    const conf = config("10.1.0.0/24");
    const v6 = { ...conf, ipam: { ...conf.ipam, ranges: [[{ subnet: "fd00:1::/64" }]] } };
    for (const [giver, taker] of [
      [ours, go],
      [go, ours],
    ] as const) {
      const given = addressOf(await giver({ verb: "ADD", containerId: "a" }, v6));
      expect(given).toMatch(/^10\.1\.0\.\d+\/24,fd00:1::\w+\/64$/);
      expect(addressOf(await taker({ verb: "ADD", containerId: "a" }, v6))).toContain(
        `failed to allocate for range 0: ${given.split("/")[0]} has been allocated to a, duplicate allocation is not allowed`,
      );
      const prevResult = { cniVersion: "1.0.0", ips: given.split(",").map((address) => ({ address })) };
      const check = await taker({ verb: "CHECK", containerId: "a" }, { ...v6, prevResult });
      expect(check).toMatchObject({ exitCode: 0, stdout: "" });
      expect(await taker({ verb: "DEL", containerId: "a" }, v6)).toMatchObject({ exitCode: 0, stdout: "" });
      expect(leases()).toEqual([]);
      expect(await giver({ verb: "CHECK", containerId: "a" }, { ...v6, prevResult })).toMatchObject({
        exitCode: 1,
      });
    }
  });

  test("the files are the same to the byte", async () => {
    const conf = config("10.1.0.0/24", { runtimeConfig: { ips: ["10.1.0.77"] } });
    const v6 = {
      ...conf,
      ipam: {
        ...conf.ipam,
        ranges: [[{ subnet: "2001:db8:0:1:1::/80", rangeStart: "2001:db8:0:1:1:0:0:99" }]],
      },
    };
    const snapshot = () => {
      const directory = join(state, "networks", "net1");
      const names = readdirSync(directory).toSorted();
      return names.map((name) => [name, readFileSync(join(directory, name), "hex")]);
    };
    const results = [];
    for (const each of [ours, go]) {
      const outcome = await each(
        { verb: "ADD", containerId: "a", args: "IgnoreUnknown=1;K8S_POD_NAME=x" },
        v6,
      );
      const { ips, routes } = JSON.parse(outcome.stdout) as { ips: unknown; routes: unknown };
      results.push({ files: snapshot(), ips, routes });
      rmSync(join(state, "networks"), { recursive: true });
    }
    expect(results[0]).toEqual(results[1]);
  });

  test.each([
    ["subnet 10.1.0.0/31", { subnet: "10.1.0.0/31" }],
    ["host bits", { subnet: "10.1.0.1/24" }],
    ["rangeStart outside", { subnet: "10.1.0.0/24", rangeStart: "10.2.0.1" }],
    ["rangeEnd outside", { subnet: "10.1.0.0/24", rangeEnd: "10.2.0.1" }],
    ["two families in one set", { ranges: [[{ subnet: "10.1.0.0/24" }, { subnet: "fd00::/64" }]] }],
    ["overlap in a set", { ranges: [[{ subnet: "10.1.0.0/24" }, { subnet: "10.1.0.0/16" }]] }],
    ["overlap of sets", { ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "10.1.0.0/16" }]] }],
    ["an empty set", { ranges: [[]] }],
    ["no range", {}],
  ])("both refuse %s in the same words", async (_name, ipam) => {
    const conf = { cniVersion: "1.0.0", name: "net1", ipam: { type: "host-local", dataDir: state, ...ipam } };
    const message = async (outcome: Promise<Outcome>) =>
      (JSON.parse((await outcome).stdout) as { msg: string }).msg;
    const theirs = await message(go({ verb: "ADD" }, conf));
    expect(await message(ours({ verb: "ADD" }, conf))).toContain(theirs);
    expect(readdirSync(state)).toEqual([]);
  });

  test("racing processes of both get each address once, and all of them", async () => {
    const conf = config("10.1.0.0/26");
    const ids = Array.from({ length: 60 }, (_, index) => `container${index}`);
    const mine = (some: string[]) =>
      child
        .run(JSON.stringify({ state, config: conf, ids: some }))
        .then((text) => (JSON.parse(text) as Outcome[]).map((outcome) => addressOf(outcome)));
    const theirs = (id: string) =>
      go({ verb: "ADD", containerId: id }, conf).then((outcome) => [addressOf(outcome)]);
    const jobs = [0, 10, 20, 30].map((start) => mine(ids.slice(start, start + 10)));
    const given = (await Promise.all([...jobs, ...ids.slice(40).map((id) => theirs(id))])).flat();
    expect(given.filter((text) => text.startsWith("error"))).toEqual([]);
    expect(new Set(given).size).toBe(60);
    expect(leases()).toHaveLength(60);
    await callHostLocal(
      state,
      { verb: "GC" },
      { ...conf, cniVersion: "1.1.0", "cni.dev/valid-attachments": [] },
    );
    expect(leases()).toEqual([]);
  });
});

test("50 racing processes on a subnet with 29 addresses get exactly those", async () => {
  const conf = config("10.1.0.0/27");
  const runs = Array.from({ length: 50 }, (_, index) =>
    child.run(JSON.stringify({ state, config: conf, ids: [`container${index}`] })),
  );
  const given = (await Promise.all(runs)).map((text) =>
    addressOf((JSON.parse(text) as Outcome[])[0] ?? fail()),
  );
  const addresses = given.filter((text) => !text.startsWith("error"));
  const expected = Array.from({ length: 29 }, (_, index) => `10.1.0.${index + 2}/27`);
  expect(addresses.toSorted()).toEqual(expected.toSorted());
  for (const text of given.filter((each) => each.startsWith("error"))) {
    expect(text).toBe(
      "error: failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.30",
    );
  }
});

function fail(): never {
  throw new Error("no outcome");
}
