import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(async () => {
  lab = new SuiteLab(suite, "upkeep");
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", "--disable-dns");
  await lab.ok("sandbox", "create", "a", "--network", "web");
  await lab.ok("sandbox", "create", "b", "--network", "web");
});
afterEach(() => lab.remove());

/** As a container ends whose runtime has crashed: the namespace goes, and nobody says DEL. */
const loseNamespace = (name: string) => lab.host.run(`umount '${lab.path("run/netns", name)}'`);
const json = async <Value>(...words: readonly string[]) =>
  JSON.parse((await lab.netctl(...words, "--json")).stdout) as Value;
const leases = async () =>
  (await readdir(lab.path("state/networks/web"))).filter((name) => name.startsWith("10.")).sort();

interface Checks {
  readonly schema: string;
  readonly attachments: readonly {
    readonly sandbox: string;
    readonly ifName: string;
    readonly state: string;
    readonly problems: readonly string[];
  }[];
}

describe("netctl check", () => {
  const statesOf = async (...words: readonly string[]) =>
    (await json<Checks>("check", ...words)).attachments.map(({ sandbox, state }) => `${sandbox} ${state}`);

  it("says of each attachment whether it is as it was made, and names what is otherwise", async () => {
    expect(await lab.netctl("check")).toMatchObject({ exitCode: 0, stderr: "" });
    expect(await statesOf()).toEqual(expect.arrayContaining(["a ok", "b ok"]));

    lab.namespace(lab.path("run/netns/a")).run("ip addr flush dev eth0; ip link set eth0 mtu 1300");
    const found = await lab.netctl("check", "web");
    expect(found.exitCode).toBe(1);
    expect(found.stdout).toMatch(/web +a +eth0 +wrong +bridge: .*10\.1\.0\.2/);
    const { schema, attachments } = await json<Checks>("check", "a");
    expect(schema).toBe("netctl.check/1");
    expect(attachments.map(({ sandbox, ifName, state }) => `${sandbox} ${ifName} ${state}`).sort()).toEqual([
      "a eth0 wrong",
      "a lo ok",
    ]);
    expect(attachments.find(({ ifName }) => ifName === "eth0")?.problems.length).toBeGreaterThan(0);
    expect(await lab.netctl("check", "b")).toMatchObject({ exitCode: 0 });
  });

  it("asks for the default route where it is, of a sandbox with several networks", async () => {
    // Somebody else's plugin, which looks for every route of the result in the main table.
    const script = `#!${process.execPath}
const { readFileSync, writeFileSync } = require("node:fs");
const { prevResult } = JSON.parse(readFileSync(0, "utf8"));
if (process.env.CNI_COMMAND === "ADD") console.log(JSON.stringify(prevResult));
if (process.env.CNI_COMMAND === "CHECK") writeFileSync("${lab.path("checked.json")}", JSON.stringify(prevResult.routes));
`;
    await mkdir(lab.path("other"));
    await writeFile(lab.path("other/keen"), script, { mode: 0o755 });
    const bin = { NETCTL_BIN_DIR: `${lab.environment["NETCTL_BIN_DIR"]}:${lab.path("other")}` };
    const ipam = {
      type: "host-local",
      dataDir: lab.path("state/networks"),
      ranges: [[{ subnet: "10.2.0.0/24" }]],
      routes: [{ dst: "0.0.0.0/0" }, { dst: "10.9.0.0/16" }],
    };
    const plugins = [{ type: "bridge", bridge: "br-other", isGateway: true, ipam }, { type: "keen" }];
    const conflist = { cniVersion: "1.0.0", name: "other", plugins };
    await writeFile(lab.path("conf/other.conflist"), JSON.stringify(conflist));
    const words = ["sandbox", "create", "c", "--network", "web:gw-priority=1", "--network", "other"];
    expect(await lab.netctlWith(bin, ...words)).toMatchObject({ exitCode: 0 });
    expect(await lab.netctlWith(bin, "check", "c")).toMatchObject({ exitCode: 0 });
    const routes = JSON.parse(await readFile(lab.path("checked.json"), "utf8")) as { readonly dst: string }[];
    expect(routes.map(({ dst }) => dst)).toEqual(["10.9.0.0/16"]);
  });

  it("knows containers that are gone, and what is no name", async () => {
    loseNamespace("b");
    expect(await statesOf("web")).toEqual(expect.arrayContaining(["a ok", "b gone"]));
    const lost = await lab.netctl("check", "b");
    expect(lost.exitCode).toBe(1);
    expect(lost.stdout).toContain('"netctl gc web" clears it away');
    expect(lost.stdout).toContain("sandbox b is lost: netctl sandbox rm b\n");
    expect(await lab.netctl("check", "nobody")).toMatchObject({
      exitCode: 1,
      stderr: "netctl: Cannot check nobody: no such sandbox, network or container\n",
    });
  });
});

describe("netctl gc", () => {
  interface Collected {
    readonly dryRun: boolean;
    readonly collected: readonly {
      readonly what: string;
      readonly address: string;
      readonly containerId: string;
    }[];
    readonly skipped: readonly string[];
  }
  const strayLease = async (address: string) => {
    await writeFile(lab.path("state/networks/web", address), "0123456789abcdef\r\neth0");
    await utimes(lab.path("state/networks/web", address), 1_700_000_000, 1_700_000_000);
  };

  it("clears away what is left of containers that are gone, and of no other", async () => {
    await strayLease("10.1.0.200");
    loseNamespace("b");
    const { dryRun, collected } = await json<Collected>("gc", "--dry-run");
    expect(dryRun).toBe(true);
    expect(collected.map(({ what, address }) => `${what} ${address}`)).toEqual([
      "attachment ",
      "address 10.1.0.200",
    ]);
    expect(await leases()).toEqual(["10.1.0.2", "10.1.0.200", "10.1.0.3"]);

    expect(await lab.netctl("gc", "web")).toMatchObject({ exitCode: 0, stderr: "" });
    expect(await leases()).toEqual(["10.1.0.2"]);
    expect(lab.host.run("nft list set inet netctl masquerade4")).not.toContain("10.1.0.3");
    await lab.ok("sandbox", "exec", "a", "--", "ping", "-c1", "-W5", "10.1.0.1");
    expect(await lab.netctl("gc")).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    expect(await lab.netctl("check", "a")).toMatchObject({ exitCode: 0 });
  });

  it("leaves a network alone that forbids it", async () => {
    loseNamespace("b");
    const file = lab.path("conf/web.conflist");
    const list = JSON.parse(await readFile(file, "utf8")) as object;
    await writeFile(file, JSON.stringify({ ...list, disableGC: true }));
    expect((await json<Collected>("gc")).skipped).toEqual(["web"]);
    expect(await leases()).toEqual(["10.1.0.2", "10.1.0.3"]);
  });
});

describe("--dry-run", () => {
  it("of network create shows what would be written, and writes nothing", async () => {
    const shown = JSON.parse(
      await lab.ok("network", "create", "new", "--subnet", "10.9.0.0/24", "-n"),
    ) as object;
    expect(shown).toMatchObject({ name: "new" });
    expect(existsSync(lab.path("conf/new.conflist"))).toBe(false);
    const clash = await lab.netctl("network", "create", "new", "--subnet", "10.1.0.0/16", "-n");
    expect(clash).toMatchObject({ exitCode: 1, stdout: "" });
    await lab.ok("network", "create", "new", "--subnet", "10.9.0.0/24");
    const written = JSON.parse(await readFile(lab.path("conf/new.conflist"), "utf8")) as { netctl: object };
    expect({ ...written, netctl: {} }).toEqual({ ...shown, netctl: {} });
  });

  it("of network rm, sandbox rm and ipam release says what would go, refuses what would be refused, and takes nothing", async () => {
    await lab.ok("network", "create", "idle");
    expect(await lab.netctl("network", "rm", "--dry-run", "idle", "web")).toMatchObject({
      exitCode: 1,
      stdout: "idle\n",
      stderr: "netctl: network web has active endpoints: a, b; remove them first\n",
    });
    expect(await lab.netctl("sandbox", "rm", "--dry-run", "a", "nobody")).toEqual({
      exitCode: 1,
      stdout: "a\n",
      stderr: "netctl: sandbox nobody not found\n",
    });
    expect(await lab.netctl("ipam", "release", "web", "10.1.0.2", "--dry-run")).toMatchObject({
      exitCode: 1,
    });
    expect(await lab.netctl("ipam", "release", "web", "10.1.0.2", "-f", "-n")).toMatchObject({
      exitCode: 0,
      stdout: "10.1.0.2\n",
    });
    expect(existsSync(lab.path("conf/idle.conflist"))).toBe(true);
    expect(await leases()).toEqual(["10.1.0.2", "10.1.0.3"]);
    await lab.ok("sandbox", "exec", "a", "--", "true");
  });
});
