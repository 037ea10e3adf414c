import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CacheDamage, type CachedAttachment, ResultCache } from "./cache.ts";

let directory: string;
let cache: ResultCache;
beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), "netctl-cache-")), "results");
  cache = new ResultCache(directory);
});
afterEach(() => rm(join(directory, ".."), { recursive: true }));

const attachment: CachedAttachment = {
  network: "web",
  containerId: "c1",
  ifName: "eth0",
  netns: "/run/netns/c1",
  args: [["IgnoreUnknown", "1"]],
  capabilityArgs: { ips: ["10.1.0.9"] },
  config: '{"cniVersion":"1.1.0","name":"web","plugins":[{"type":"bridge"}]}',
  result: { cniVersion: "1.1.0", ips: [{ address: "10.1.0.9/24" }] },
};
const key = { network: "web", containerId: "c1", ifName: "eth0" };

describe("ResultCache", () => {
  it("keeps an attachment in the file, format and permissions that libcni uses", async () => {
    await cache.write(attachment);
    const file = join(directory, "web-c1-eth0");
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual({
      kind: "cniCacheV1",
      containerId: "c1",
      config: Buffer.from(attachment.config).toString("base64"),
      ifName: "eth0",
      networkName: "web",
      netns: "/run/netns/c1",
      cniArgs: [["IgnoreUnknown", "1"]],
      capabilityArgs: { ips: ["10.1.0.9"] },
      result: attachment.result,
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    expect(await readdir(directory)).toEqual(["web-c1-eth0"]);
  });

  it("gives back what was written, and nothing after remove()", async () => {
    await cache.write(attachment);
    expect(await cache.read(key)).toEqual(attachment);
    await cache.remove(key);
    expect(await cache.read(key)).toBeUndefined();
    await expect(cache.remove(key)).resolves.toBeUndefined();
  });

  it("reads a bare result, as libcni wrote it before it had this format", async () => {
    await cache.write(attachment);
    await writeFile(join(directory, "web-c1-eth0"), '{"cniVersion":"0.4.0","ips":[]}');
    expect(await cache.read(key)).toEqual({
      ...key,
      netns: "",
      args: [],
      capabilityArgs: {},
      config: "",
      result: { cniVersion: "0.4.0", ips: [] },
    });
  });

  it.each([
    ["cut off", '{"kind":"cniCacheV1","containerId":"c1"'],
    ["empty", ""],
    ["no object", "[]"],
    ["without a result", '{"kind":"cniCacheV1","containerId":"c1","ifName":"eth0","networkName":"web"}'],
    [
      "of an unknown kind",
      '{"kind":"cniCacheV9","containerId":"c1","ifName":"eth0","networkName":"web","result":{}}',
    ],
  ])("says so where the file is %s", async (_, text) => {
    await cache.write(attachment);
    await writeFile(join(directory, "web-c1-eth0"), text);
    await expect(cache.read(key)).rejects.toThrow(CacheDamage);
    expect(await cache.list()).toEqual([]);
  });

  it("lists by network, where one name starts with the other, and past what it can't read", async () => {
    await cache.write(attachment);
    await cache.write({ ...attachment, network: "web-db" });
    await writeFile(join(directory, "web-broken-eth0"), "{");
    expect((await cache.list("web")).map(({ network }) => network)).toEqual(["web"]);
    expect((await cache.list()).map(({ network }) => network)).toEqual(["web", "web-db"]);
  });

  it("is empty where the directory is missing", async () => {
    expect(await cache.list()).toEqual([]);
    expect(await cache.read(key)).toBeUndefined();
  });
});
