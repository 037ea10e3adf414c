import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ConfDirectory, UnknownNetwork } from "./conf-dir.ts";

let directory: string;
let networks: ConfDirectory;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "netctl-conf-"));
  networks = new ConfDirectory(directory);
});
afterEach(() => rm(directory, { recursive: true }));

async function put(file: string, content: unknown): Promise<void> {
  const path = join(directory, file);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
}

const list = (name: string, ...types: string[]) => ({
  cniVersion: "1.1.0",
  name,
  plugins: types.map((type) => ({ type })),
});

/** File, network and chain of all that was loaded. */
async function loaded(): Promise<readonly string[]> {
  const content = await networks.load();
  return content.networks.map(
    ({ path, list }) =>
      `${path.slice(directory.length + 1)} ${list.name} ${list.plugins.map(({ type }) => type).join("+")}`,
  );
}

async function problems(): Promise<readonly string[]> {
  const content = await networks.load();
  return content.problems.map(({ path, error }) => `${path.slice(directory.length + 1)} ${error.message}`);
}

describe("ConfDirectory.load()", () => {
  it("takes lists by file name, then single configurations, and no other file", async () => {
    await put("20-b.conflist", list("b", "bridge", "portmap"));
    await put("10-a.conflist", list("a", "bridge"));
    await put("00-c.conf", { cniVersion: "1.0.0", name: "c", type: "macvlan" });
    await put("01-d.json", { cniVersion: "1.0.0", name: "d", type: "ipvlan" });
    await put("README", "no network");
    await put("e.conflist.bak", list("e", "bridge"));
    await mkdir(join(directory, "f.conflist"));
    await symlink("10-a.conflist", join(directory, "99-gone"));
    expect(await loaded()).toEqual([
      "10-a.conflist a bridge",
      "20-b.conflist b bridge+portmap",
      "00-c.conf c macvlan",
      "01-d.json d ipvlan",
    ]);
  });

  it("appends the plugins of the network's own folder, unless the list forbids it", async () => {
    await put("a.conflist", list("a", "bridge"));
    await put("a/20-second.conf", { type: "tuning" });
    await put("a/10-first.conf", { type: "firewall" });
    await put("a/ignored.json", { type: "portmap" });
    await put("b.conflist", { ...list("b", "bridge"), loadOnlyInlinedPlugins: true });
    await put("b/10-first.conf", { type: "firewall" });
    await put("c.conflist", { cniVersion: "1.1.0", name: "c" });
    await put("c/10-only.conf", { type: "macvlan" });
    expect(await loaded()).toEqual([
      "a.conflist a bridge+firewall+tuning",
      "b.conflist b bridge",
      "c.conflist c macvlan",
    ]);
  });

  it("keeps the loaded plugins in the list's JSON, which the result cache stores", async () => {
    await put("a.conflist", list("a", "bridge"));
    await put("a/10.conf", { type: "tuning", mtu: 1400 });
    const { list: a } = await networks.find("a");
    expect(a.json["plugins"]).toEqual([{ type: "bridge" }, { type: "tuning", mtu: 1400 }]);
  });

  it.each([
    ["JSON that is cut off", '{"name":'],
    ["no name", { ...list("x", "bridge"), name: undefined }],
    ["a name that is no identifier", list("../x", "bridge")],
    ["an unknown version", { ...list("x", "bridge"), cniVersion: "9.9.9" }],
    ["an empty chain", list("x")],
    ["no chain", { cniVersion: "1.1.0", name: "x" }],
    ["a plugin without a type", { ...list("x"), plugins: [{}] }],
  ])("is not put off other networks by a file with %s", async (_, content) => {
    await put("0.conflist", content);
    await put("1.conflist", list("good", "bridge"));
    expect(await loaded()).toEqual(["1.conflist good bridge"]);
    expect(await problems()).toHaveLength(1);
  });

  it("takes the first of two networks with one name, and reports the other", async () => {
    await put("1.conflist", list("a", "bridge"));
    await put("2.conflist", list("a", "macvlan"));
    expect(await loaded()).toEqual(["1.conflist a bridge"]);
    expect(await problems()).toEqual([`2.conflist network a is defined in ${directory}/1.conflist already`]);
  });

  it("finds nothing in a directory that is missing", async () => {
    networks = new ConfDirectory(join(directory, "missing"));
    expect(await networks.load()).toEqual({ networks: [], problems: [] });
  });
});

describe("ConfDirectory.find()", () => {
  it("names the files that it could not read when it finds no network", async () => {
    await put("a.conflist", "{");
    const failure: unknown = await networks.find("a").catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UnknownNetwork);
    expect((failure as Error).message).toMatch(/^network a not found in .*a\.conflist: /);
  });
});

describe("ConfDirectory.create()", () => {
  it("writes a file that any runtime can read, and leaves no other", async () => {
    const path = await networks.create("web", list("web", "bridge"));
    expect((await stat(path)).mode & 0o777).toBe(0o644);
    expect(await readdir(directory)).toEqual(["web.conflist"]);
    expect((await networks.find("web")).path).toBe(path);
  });

  it("makes the directory", async () => {
    networks = new ConfDirectory(join(directory, "cni/net.d"));
    await networks.create("web", list("web", "bridge"));
    expect((await stat(join(directory, "cni/net.d"))).mode & 0o777).toBe(0o755);
  });

  it("replaces nothing", async () => {
    await put("web.conflist", "mine");
    await expect(networks.create("web", list("web", "bridge"))).rejects.toMatchObject({ code: "EEXIST" });
    expect(await readFile(join(directory, "web.conflist"), "utf8")).toBe("mine");
    expect(await readdir(directory)).toEqual(["web.conflist"]);
  });

  it("lets one of many at once win", async () => {
    const attempts = Array.from({ length: 20 }, () => networks.create("web", list("web", "bridge")));
    const results = await Promise.allSettled(attempts);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await readdir(directory)).toEqual(["web.conflist"]);
  });
});
