import { readdirSync, readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { withNetworkLock } from "#journal/attachment-lock.ts";
import { tryFileLock } from "#machine/lock.ts";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(async () => {
  lab = new SuiteLab(suite, "repair");
  await lab.ok(
    "network",
    "create",
    // Else a netd runs, which puts right what is made wrong here.
    "--disable-dns",
    "web",
    "--subnet",
    "10.1.0.0/24",
    "-o",
    "com.docker.network.bridge.name=br1",
  );
  await lab.ok("sandbox", "create", "a", "--network", "web");
});
afterEach(() => lab.remove());

describe("netctl repair", () => {
  it("says that nothing is missing", async () => {
    expect(await lab.netctl("repair")).toMatchObject({
      exitCode: 0,
      stdout: "nothing is missing (1 records)\n",
    });
  });

  it("names what is missing, puts it back, and says so", async () => {
    lab.host.run("nft flush ruleset");
    const dry = await lab.netctl("repair", "--dry-run");
    expect(dry).toMatchObject({ exitCode: 1, stderr: "" });
    expect(dry.stdout).toContain("table inet netctl is missing\n");
    expect(dry.stdout).toMatch(/web \w+ eth0 \(bridge\)\n {2}missing: masquerade4 \{ 10\.1\.0\.2 \}\n/u);
    expect(lab.host.run("nft list ruleset")).toBe("");

    const mended = await lab.netctl("repair", "--json");
    expect(mended.exitCode).toBe(0);
    expect(JSON.parse(mended.stdout)).toMatchObject({
      schema: "netctl.repair/1",
      dryRun: false,
      attachments: 1,
      tables: [{ family: "inet", was: "missing" }],
      repaired: [
        { network: "web", ifName: "eth0", plugin: "bridge", elements: ["masquerade4 { 10.1.0.2 }"] },
      ],
      failed: [],
      links: [],
      busy: [],
    });
    expect(lab.host.run("nft list set inet netctl masquerade4")).toContain("10.1.0.2");
  });

  it("leaves alone what somebody works on, says so, and looks again when he has done", async () => {
    let looking: ReturnType<SuiteLab["netctl"]> | undefined;
    const work = async () => {
      lab.host.run("nft flush ruleset");
      const left = await lab.netctl("repair", "--wait", "0");
      expect(left.stdout).toMatch(/web \w+ eth0: misses something, and is left alone/u);
      expect(left.exitCode).toBe(1);
      expect(lab.host.run("nft list ruleset")).not.toContain("10.1.0.2");

      lab.host.run("nft flush ruleset");
      looking = lab.netctl("repair", "--wait", "100s", "--json");
      // Which its first look makes, with nothing in them.
      const rules = () => lab.host.run("nft list ruleset");
      await expect.poll(rules, { timeout: 60_000 }).toContain("table inet netctl");
    };
    await withNetworkLock(lab.path("run"), "web", work, { timeoutMs: 10_000 });
    expect(JSON.parse((await looking)?.stdout ?? "")).toMatchObject({
      busy: [],
      tables: [{ family: "inet", was: "missing" }],
      repaired: [{ network: "web", plugin: "bridge", elements: ["masquerade4 { 10.1.0.2 }"] }],
    });
    expect(lab.host.run("nft list set inet netctl masquerade4")).toContain("10.1.0.2");
  });

  it("leads a container to its resolver again, where no netd does", async () => {
    await lab.ok("network", "create", "named", "--subnet", "10.2.0.0/24");
    await lab.ok("sandbox", "create", "b", "--network", "named");
    await endNetd();
    const inside = lab.namespace(lab.path("run/netns/b"));
    inside.run("nft flush ruleset");
    const { stdout, exitCode } = await lab.netctl("repair");
    expect(stdout).toMatch(/put back: table ip netctl_dns in container \w+, which leads to the resolver/u);
    expect(exitCode).toBe(0);
    expect(inside.run("nft list table ip netctl_dns")).toContain("127.0.0.11");
    expect((await lab.netctl("repair")).stdout).toMatch(/^nothing is missing/u);
  });

  it("names links and addresses that are not as they were made", async () => {
    lab.host.run("ip addr del 10.1.0.1/24 dev br1");
    const port = lab.host.json<{ ifname: string }>("ip -j link show master br1")[0]?.ifname ?? "";
    lab.host.run(`ip link set ${port} nomaster`);
    const { exitCode, stdout } = await lab.netctl("repair");
    expect(exitCode).toBe(1);
    expect(stdout).toContain(`veth "${port}" is not a port of bridge "br1"`);
    expect(stdout).toContain('"br1" is without the gateway address 10.1.0.1/24');
  });
});

/** Kills the one of this host, and waits until it is gone. */
async function endNetd(): Promise<void> {
  const [name = ""] = readdirSync(lab.path("run")).filter((each) => each.endsWith(".lock"));
  const path = lab.path("run", name);
  process.kill(Number(readFileSync(path, "utf8")), "SIGKILL");
  const isGone = () => {
    const giveBack = tryFileLock(path);
    giveBack?.();
    return giveBack !== undefined;
  };
  await expect.poll(isGone, { timeout: 60_000 }).toBe(true);
}
