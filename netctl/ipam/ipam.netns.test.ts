import { readdir, utimes, writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "ipam");
});
afterEach(() => lab.remove());

interface Row {
  readonly network: string;
  readonly address: string;
  readonly state: string;
  readonly sandbox: string | null;
}

const json = async <Value>(...words: readonly string[]) =>
  JSON.parse(await lab.ok("ipam", ...words, "--json")) as Value;
const states = async (network: string) =>
  (await json<readonly Row[]>("show", network)).map(({ address, state, sandbox }) =>
    [address, state, sandbox ?? "-"].join(" "),
  );
const leaseFile = (network: string, address: string) => lab.path("state/networks", network, address);

/** A lease as a plugin of another suite leaves it, given long ago. */
async function strayLease(network: string, address: string, content: string): Promise<void> {
  await writeFile(leaseFile(network, address), content);
  await utimes(leaseFile(network, address), 1_700_000_000, 1_700_000_000);
}

describe("netctl ipam", () => {
  it("counts pools and networks, and a /8 or a /64 costs nothing", async () => {
    await lab.ok("network", "create", "small", "--subnet", "10.1.0.0/29", "--aux-address", "router=10.1.0.5");
    await lab.ok("network", "create", "big", "--subnet", "11.0.0.0/8", "--subnet", "fd01::/64");
    await lab.ok("network", "create", "pooled");
    for (const name of ["a", "b"]) {
      await lab.ok("sandbox", "create", name, "--network", "small", "--network", "big");
    }
    const { pools, networks } = await json<{ pools: readonly object[]; networks: readonly object[] }>("ls");
    expect(pools[0]).toEqual({ base: "172.17.0.0/16", size: 16, subnets: 1, used: 1, free: 0 });
    expect(pools[6]).toMatchObject({ base: "192.168.0.0/16", size: 20, subnets: 16 });
    const big = { network: "big", used: 2, leaked: 0 };
    expect(networks).toEqual([
      { ...big, subnet: "11.0.0.0/8", gateway: "11.0.0.1", capacity: 2 ** 24 - 3, free: 2 ** 24 - 5 },
      {
        ...big,
        subnet: "fd01::/64",
        gateway: "fd01::1",
        capacity: Number.MAX_SAFE_INTEGER,
        free: Number.MAX_SAFE_INTEGER,
      },
      {
        network: "pooled",
        subnet: "172.17.0.0/16",
        gateway: "172.17.0.1",
        capacity: 65533,
        used: 0,
        free: 65533,
        leaked: 0,
      },
      {
        network: "small",
        subnet: "10.1.0.0/29",
        gateway: "10.1.0.1",
        capacity: 4,
        used: 2,
        free: 2,
        leaked: 0,
      },
    ]);
    expect(await lab.ok("ipam", "ls")).toMatch(/fd01::\/64 +18446744073709551614 +2 +18446744073709551612/);
    expect(await states("small")).toEqual([
      "10.1.0.1 gateway -",
      "10.1.0.5 reserved -",
      "10.1.0.2 live a",
      "10.1.0.3 live b",
    ]);
  });

  it("names leaks, and takes back those and no others", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    for (const name of ["a", "b"]) {
      await lab.ok("sandbox", "create", name, "--network", "web", "-p", `808${name === "a" ? 0 : 1}:80`);
    }
    lab.host.run(`umount '${lab.path("run/netns/a")}'`);
    await strayLease("web", "10.1.0.40", "container-of-somebody\r\neth0");
    await strayLease("web", "10.1.0.41", "");
    await writeFile(leaseFile("web", "10.1.0.42"), "beginning\r\neth0");
    const before = [
      "10.1.0.1 gateway -",
      "10.1.0.2 gone a",
      "10.1.0.3 live b",
      "10.1.0.40 unknown -",
      "10.1.0.41 nobody -",
      "10.1.0.42 new -",
    ];
    expect(await states("web")).toEqual(before);
    expect((await lab.netctl("ipam", "ls")).stderr).toContain('"netctl ipam gc" takes leaked addresses back');
    const found = await json<readonly Row[]>("gc", "--dry-run");
    expect(found.map(({ address }) => address)).toEqual(["10.1.0.2", "10.1.0.40", "10.1.0.41"]);
    expect(await states("web")).toEqual(before);

    expect((await json<readonly Row[]>("gc")).map(({ address }) => address)).toEqual(
      found.map(({ address }) => address),
    );
    expect(await states("web")).toEqual(["10.1.0.1 gateway -", "10.1.0.3 live b", "10.1.0.42 new -"]);
    // Nothing leads to the address that somebody else may have next.
    expect(lab.host.run("nft list table inet netctl")).not.toMatch(/10\.1\.0\.2\b|8080/);
    expect(lab.host.run("nft list table inet netctl")).toMatch(/8081/);
    await lab.ok("ipam", "gc", "web", "--older-than", "0s");
    expect(await states("web")).toEqual(["10.1.0.1 gateway -", "10.1.0.3 live b"]);
    expect(await lab.ok("ipam", "gc")).toBe("");
    await lab.ok("sandbox", "rm", "a", "b");
    expect((await readdir(lab.path("state/networks/web"))).filter((name) => /^\d/.test(name))).toEqual([]);
  });

  it("releases an address by hand, but not one whose container is there", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    await strayLease("web", "10.1.0.40", "container-of-somebody\r\neth0");
    const refused = await lab.netctl("ipam", "release", "web", "10.1.0.2", "10.1.0.40", "10.1.0.77");
    expect(refused).toMatchObject({ exitCode: 1, stdout: "10.1.0.40\n" });
    expect(refused.stderr).toMatch(
      /10\.1\.0\.2 of network web: container [0-9a-f]{64} \(eth0\) has it and is there; --force.*\n.*10\.1\.0\.77 .*nobody has it/,
    );
    expect(await states("web")).toEqual(["10.1.0.1 gateway -", "10.1.0.2 live a"]);
    await lab.ok("ipam", "release", "--force", "web", "10.1.0.2");
    expect(await states("web")).toEqual(["10.1.0.1 gateway -"]);
  });

  it("finds the owner of an address in all networks", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    expect(await json("show", "10.1.0.2")).toMatchObject([
      { network: "web", sandbox: "a", ifName: "eth0", netns: lab.path("run/netns/a") },
    ]);
    const none = await lab.netctl("ipam", "show", "10.1.0.9");
    expect(none).toMatchObject({ exitCode: 1, stderr: "netctl: no network has given out 10.1.0.9\n" });
  });
});
