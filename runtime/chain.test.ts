import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseConfList } from "#cni/conflist.ts";
import { ExecRunner } from "#cni/invoke.ts";
import { ScriptedPlugins } from "#testing/scripted-plugins.ts";
import { ResultCache } from "./cache.ts";
import {
  addNetworkList,
  ChainFailure,
  type ChainHost,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  statusNetworkList,
} from "./chain.ts";

let directory: string;
let plugins: ScriptedPlugins;
let host: ChainHost;
let cached: () => Promise<readonly string[]>;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "netctl-chain-"));
  plugins = await ScriptedPlugins.make(directory, ["first", "second", "third"]);
  const results = join(directory, "results");
  host = {
    runner: new ExecRunner(),
    path: [join(directory, "none"), plugins.bin],
    environment: { PATH: process.env["PATH"], NETCTL_STATE_DIR: "/elsewhere", CNI_IFNAME: "left-over" },
    cache: new ResultCache(results),
  };
  cached = async () => await readdir(results).catch(() => []);
});
afterEach(() => rm(directory, { recursive: true }));

function network(version = "1.1.0", extra = {}) {
  return parseConfList(
    JSON.stringify({
      cniVersion: version,
      name: "web",
      ...extra,
      plugins: [
        { type: "first", capabilities: { ips: true, mac: false } },
        { type: "second" },
        { type: "third" },
      ],
    }),
  );
}

const target = {
  containerId: "c1",
  netns: "/run/netns/c1",
  ifName: "eth0",
  args: [
    ["IgnoreUnknown", "1"],
    ["K", "v"],
  ],
  capabilityArgs: { ips: ["10.1.0.9"], mac: "02:00:00:00:00:01", bandwidth: {} },
} as const;

const firstResult = {
  cniVersion: "1.1.0",
  interfaces: [{ name: "eth0" }],
  ips: [{ interface: 0, address: "10.1.0.9/24" }],
};
const lastResult = { ...firstResult, dns: { nameservers: ["10.1.0.1"] } };
const error = (code: number, msg: string) => ({ cniVersion: "1.1.0", code, msg });

describe("addNetworkList()", () => {
  it("gives each plugin its own request, and the result of the one before", async () => {
    await plugins.answer("first", "ADD", firstResult);
    await plugins.answer("second", "ADD", firstResult);
    await plugins.answer("third", "ADD", lastResult);

    const result = await addNetworkList(network(), target, host);

    expect(result.dns.nameservers).toEqual(["10.1.0.1"]);
    const [first, second, third] = await plugins.calls();
    expect(first?.stdin).toEqual({
      type: "first",
      name: "web",
      cniVersion: "1.1.0",
      capabilities: { ips: true, mac: false },
      runtimeConfig: { ips: ["10.1.0.9"] },
    });
    expect(second?.stdin).toEqual({
      type: "second",
      name: "web",
      cniVersion: "1.1.0",
      prevResult: firstResult,
    });
    expect(third?.stdin["prevResult"]).toEqual(firstResult);
    expect(first?.environment).toMatchObject({
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: "c1",
      CNI_NETNS: "/run/netns/c1",
      CNI_IFNAME: "eth0",
      CNI_ARGS: "IgnoreUnknown=1;K=v",
      CNI_PATH: host.path.join(":"),
      NETCTL_STATE_DIR: "/elsewhere",
    });
    expect(await cached()).toEqual(["web-c1-eth0"]);
  });

  it("takes everything back, in reverse order, when a plugin fails, and tells why", async () => {
    await plugins.answer("first", "ADD", firstResult);
    await plugins.answer("second", "ADD", error(11, "pool is exhausted"), 1);
    await plugins.answer("first", "DEL", error(5, "disk is full"), 1);

    const failure: unknown = await addNetworkList(network(), target, host).catch((thrown: unknown) => thrown);

    expect(failure).toBeInstanceOf(ChainFailure);
    expect((failure as ChainFailure).message).toBe(
      'Cannot attach eth0 to network "web": plugin second failed ADD with code 11: pool is exhausted; plugin first failed DEL with code 5: disk is full',
    );
    expect(await plugins.sequence()).toEqual([
      "first ADD",
      "second ADD",
      "third DEL",
      "second DEL",
      "first DEL",
    ]);
    expect(await cached()).toEqual([]);
  });

  it("does nothing at all when an executable is missing", async () => {
    await rm(join(plugins.bin, "third"));
    await expect(addNetworkList(network(), target, host)).rejects.toThrow(/third/);
    expect(await plugins.sequence()).toEqual([]);
  });

  it("leaves an attachment alone that is there already", async () => {
    await plugins.answer("third", "ADD", firstResult);
    await addNetworkList(network(), target, host);
    const before = await plugins.sequence();
    await expect(addNetworkList(network(), target, host)).rejects.toThrow(/attached already/);
    expect(await plugins.sequence()).toEqual(before);
    expect(await cached()).toEqual(["web-c1-eth0"]);
  });

  it("takes a plugin that prints no result for a failure", async () => {
    await plugins.answer("first", "ADD", { ips: [{ address: "not an address" }] });
    await expect(addNetworkList(network(), target, host)).rejects.toThrow(
      /plugin first failed ADD with code 7/,
    );
    expect(await plugins.sequence()).toEqual(["first ADD", "third DEL", "second DEL", "first DEL"]);
  });
});

describe("delNetworkList()", () => {
  beforeEach(async () => {
    for (const type of ["first", "second", "third"]) await plugins.answer(type, "ADD", lastResult);
  });
  const dels = async () => (await plugins.calls()).filter(({ verb }) => verb === "DEL");

  it("goes backwards with the final result and empties the cache", async () => {
    await addNetworkList(network(), target, host);
    await delNetworkList(network(), { ...target, netns: "" }, host);
    const calls = await dels();
    expect(calls.map(({ type }) => type)).toEqual(["third", "second", "first"]);
    for (const { stdin, environment } of calls) {
      expect(stdin["prevResult"]).toEqual(lastResult);
      expect(environment["CNI_NETNS"]).toBe("");
    }
    expect(await cached()).toEqual([]);
  });

  it("goes on past a plugin that fails, reports it, and can be repeated with the same result", async () => {
    await addNetworkList(network(), target, host);
    await plugins.answer("second", "DEL", error(999, "no"), 1);
    await plugins.answer("first", "DEL", error(5, "no either"), 1);
    await expect(delNetworkList(network(), target, host)).rejects.toThrow(
      'Cannot detach eth0 from network "web": plugin second failed DEL with code 999: no; plugin first failed DEL with code 5: no either',
    );
    expect(await cached()).toEqual(["web-c1-eth0"]);
    await plugins.answer("second", "DEL", {});
    await plugins.answer("first", "DEL", {});
    await delNetworkList(network(), target, host);
    expect((await dels()).at(-1)?.stdin["prevResult"]).toEqual(lastResult);
    expect(await cached()).toEqual([]);
  });

  it.each([
    ["nothing is cached", async () => rm(join(directory, "results"), { recursive: true })],
    ["the cached result is damaged", async () => writeFile(join(directory, "results/web-c1-eth0"), "{")],
  ])("does without a result where %s", async (_, spoil) => {
    await addNetworkList(network(), target, host);
    await spoil();
    await delNetworkList(network(), target, host);
    for (const { stdin } of await dels()) expect(stdin).not.toHaveProperty("prevResult");
    expect(await cached()).toEqual([]);
  });

  it("sends none to a network of 0.3.1, which knows none", async () => {
    await addNetworkList(network("0.3.1"), target, host);
    await delNetworkList(network("0.3.1"), target, host);
    for (const { stdin } of await dels()) expect(stdin).not.toHaveProperty("prevResult");
  });
});

describe("checkNetworkList()", () => {
  it("asks every plugin with the final result, forwards, and stops at the first that finds something", async () => {
    for (const type of ["first", "second", "third"]) await plugins.answer(type, "ADD", lastResult);
    await addNetworkList(network(), target, host);
    await checkNetworkList(network(), target, host);
    await plugins.answer("second", "CHECK", error(100, "eth0 is down"), 1);
    await expect(checkNetworkList(network(), target, host)).rejects.toThrow(/eth0 is down/);
    const checks = (await plugins.calls()).filter(({ verb }) => verb === "CHECK");
    expect(checks.map(({ type }) => type)).toEqual(["first", "second", "third", "first", "second"]);
    for (const { stdin } of checks) expect(stdin["prevResult"]).toEqual(lastResult);
  });

  it("is refused without a cached result and for versions that have no CHECK, and left out where forbidden", async () => {
    await expect(checkNetworkList(network(), target, host)).rejects.toThrow(/no result/);
    await expect(checkNetworkList(network("0.3.1"), target, host)).rejects.toThrow(/0\.3\.1/);
    await checkNetworkList(network("1.1.0", { disableCheck: "true" }), target, host);
    expect(await plugins.sequence()).toEqual([]);
  });
});

describe("gcNetworkList()", () => {
  it("runs DEL for what the cache knows to be stale, then GC with the list of what lives", async () => {
    for (const containerId of ["c1", "c2"]) await addNetworkList(network(), { ...target, containerId }, host);
    await plugins.answer("third", "DEL", error(999, "stuck"), 1);
    await plugins.answer("first", "GC", error(999, "stuck too"), 1);
    await expect(gcNetworkList(network(), [{ containerId: "c2", ifName: "eth0" }], host)).rejects.toThrow(
      /stuck.*stuck too/,
    );
    const calls = (await plugins.calls()).filter(({ verb }) => verb !== "ADD");
    expect(calls.map(({ type, verb }) => `${type} ${verb}`)).toEqual([
      "third DEL",
      "second DEL",
      "first DEL",
      "first GC",
      "second GC",
      "third GC",
    ]);
    expect(calls[0]?.environment).toMatchObject({ CNI_CONTAINERID: "c1", CNI_NETNS: "/run/netns/c1" });
    const valid = [{ containerID: "c2", ifname: "eth0" }];
    expect(calls[3]?.stdin).toMatchObject({
      "cni.dev/valid-attachments": valid,
      "cni.dev/attachments": valid,
    });
    expect(calls[3]?.environment).not.toHaveProperty("CNI_IFNAME");
  });

  it("sends no GC to a network of 1.0.0", async () => {
    await gcNetworkList(network("1.0.0"), [], host);
    expect(await plugins.sequence()).toEqual([]);
  });

  it("does nothing where the network forbids it", async () => {
    await addNetworkList(network(), target, host);
    await gcNetworkList(network("1.1.0", { disableGC: true }), [], host);
    expect(await cached()).toEqual(["web-c1-eth0"]);
  });
});

describe("statusNetworkList()", () => {
  it("gives the first plugin's error, with its code", async () => {
    await statusNetworkList(network(), host);
    await plugins.answer("second", "STATUS", error(50, "pool is exhausted"), 1);
    await expect(statusNetworkList(network(), host)).rejects.toThrow(
      'Network "web" is not ready: plugin second failed STATUS with code 50: pool is exhausted',
    );
    expect((await plugins.sequence()).slice(3)).toEqual(["first STATUS", "second STATUS"]);
  });
});
