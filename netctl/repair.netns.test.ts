import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
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
    });
    expect(lab.host.run("nft list set inet netctl masquerade4")).toContain("10.1.0.2");
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
