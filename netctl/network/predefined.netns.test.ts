import { readdir, readFile, writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { askOnce, startServer } from "#testing/traffic.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "predefined");
});
afterEach(() => lab.remove());

const names = async (...words: readonly string[]) =>
  (await lab.ok("network", "ls", "--format", "{{.Name}}", ...words)).trim().split("\n");

describe("the predefined networks", () => {
  it("are listed and can be inspected, but not created or removed", async () => {
    expect(await names()).toEqual(["bridge", "host", "none"]);
    expect(await names("--filter", "type=custom")).toEqual([""]);
    expect(JSON.parse(await lab.ok("network", "inspect", "host", "none"))).toMatchObject([
      { Name: "host", Driver: "host" },
      { Name: "none", Driver: "none" },
    ]);
    for (const name of ["bridge", "host", "none"]) {
      expect((await lab.netctl("network", "create", name)).stderr).toBe(
        `netctl: operation is not permitted on predefined ${name} network\n`,
      );
      expect((await lab.netctl("network", "rm", name)).stderr).toBe(
        `netctl: ${name} is a pre-defined network and cannot be removed\n`,
      );
    }
  });

  it("bridge is made when it is used first, also by many at once", async () => {
    await Promise.all(
      ["a", "b", "c"].map((name) => lab.ok("sandbox", "create", name, "--network", "bridge")),
    );
    expect(await readdir(lab.path("conf"))).toEqual(["bridge.conflist"]);
    expect(await readFile(lab.path("conf/bridge.conflist"), "utf8")).toContain('"bridge": "netctl0"');
    expect(lab.host.run("ip -o link show netctl0")).toContain("UP");
    const addresses = (await lab.ok("sandbox", "ls")).match(/172\.17\.0\.\d+/g);
    expect(addresses?.sort()).toEqual(["172.17.0.2", "172.17.0.3", "172.17.0.4"]);
    await lab.ok("sandbox", "exec", "a", "--", "ping", "-c1", "-W10", "172.17.0.1");
    expect((await lab.netctl("sandbox", "create", "d", "--network", "bridge:ip=172.17.0.9")).stderr).toBe(
      "netctl: user specified IP address is supported on user defined networks only\n",
    );
    expect((await lab.netctl("sandbox", "create", "d", "--network", "bridge:alias=db")).stderr).toMatch(
      /alias is supported only for containers in user defined networks/,
    );
  });

  it("bridge of somebody else's configuration is that one", async () => {
    const own = {
      cniVersion: "1.0.0",
      name: "bridge",
      plugins: [{ type: "bridge", bridge: "br9", ipam: { type: "host-local", subnet: "10.9.0.0/24" } }],
    };
    await lab.ok("network", "create", "other", "--subnet", "10.1.0.0/24");
    await writeFile(
      lab.path("conf/10-bridge.conf"),
      JSON.stringify({ ...own.plugins[0], name: "bridge", cniVersion: "1.0.0" }),
    );
    await lab.ok("sandbox", "create", "a", "--network", "bridge:ip=10.9.0.7");
    expect(await lab.ok("sandbox", "ls")).toContain("10.9.0.7/24");
  });

  it("host is the host's own network, which outlives the sandbox", async () => {
    await lab.ok("sandbox", "create", "a", "--network", "host", "-p", "8080:80");
    const stop = await startServer(lab.host, "host", [80]);
    expect(await lab.ok("sandbox", "exec", "a", "--", "readlink", "/proc/self/ns/net")).toBe(
      lab.host.run("readlink /proc/self/ns/net"),
    );
    expect(await lab.ok("port", "a")).toBe("");
    expect(JSON.parse(await lab.ok("sandbox", "ls", "--json"))).toMatchObject([
      { name: "a", state: "ready", netns: "/proc/self/ns/net" },
    ]);
    expect((await lab.netctl("network", "disconnect", "host", "a")).stderr).toMatch(
      /cannot be connected to host/,
    );
    const mixed = await lab.netctl("sandbox", "create", "b", "--network", "host", "--network", "bridge");
    expect(mixed.exitCode).toBe(125);
    await lab.ok("sandbox", "rm", "-f", "a");
    expect(await askOnce(lab.host, { protocol: "tcp", to: "127.0.0.1", port: 80 })).toMatch(/^host sees/);
    expect(lab.host.run("ip -o link show lo")).toMatch(/LOOPBACK,UP/);
    stop();
  });
});

describe("netctl network ls and prune", () => {
  it("filter as Docker's do, and print what a template says", async () => {
    await lab.ok("network", "create", "front", "--label", "tier=front", "--subnet", "10.1.0.0/24");
    await lab.ok("network", "create", "back", "--label", "tier=back", "--label", "keep", "--internal");
    await lab.ok("network", "create", "quiet", "-d", "none");
    await lab.ok("sandbox", "create", "a", "--network", "front");
    expect(await names("-f", "label=tier")).toEqual(["back", "front"]);
    expect(await names("-f", "label=tier=back", "-f", "label=keep")).toEqual(["back"]);
    expect(await names("-f", "name=^.ack$", "-f", "name=front")).toEqual(["back", "front"]);
    expect(await names("-f", "driver=none")).toEqual(["none", "quiet"]);
    expect(await names("-f", "dangling=true")).toEqual(["back", "quiet"]);
    expect(
      await lab.ok("network", "ls", "--format", "table {{.Name}}\\t{{.Internal}}", "-f", "label=tier"),
    ).toBe("NAME    INTERNAL\nback    true\nfront   false\n");
    expect(
      await lab.ok(
        "network",
        "inspect",
        "-f",
        "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}",
        "front",
      ),
    ).toBe("a 10.1.0.2/24\n");
    const wrong = await lab.netctl("network", "ls", "-f", "colour=red");
    expect(wrong).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("invalid filter 'colour'") as string,
    });
  });

  it("removes what nobody uses, and nothing of others", async () => {
    for (const name of ["used", "left", "kept"]) {
      await lab.ok("network", "create", name, "--label", name === "kept" ? "keep" : "drop");
    }
    const foreign = { cniVersion: "1.0.0", name: "foreign", plugins: [{ type: "bridge" }] };
    await writeFile(lab.path("conf/foreign.conflist"), JSON.stringify(foreign));
    for (const network of ["used", "left"]) {
      await lab.ok("sandbox", "create", network, "--network", network);
    }
    await lab.ok("sandbox", "rm", "left");
    expect(await lab.netctl("network", "prune")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/^WARNING! This will remove all custom networks/) as string,
    });
    expect(await lab.ok("network", "prune", "-f", "--filter", "until=1h")).toBe("");
    expect(await lab.ok("network", "prune", "--dry-run", "--filter", "label!=keep")).toBe(
      "Networks that would be deleted:\nleft\n\n",
    );
    expect(await lab.ok("network", "prune", "-f", "--filter", "label!=keep")).toBe(
      "Deleted Networks:\nleft\n\n",
    );
    expect(await names("-f", "type=custom")).toEqual(["foreign", "kept", "used"]);
    const refused = await lab.netctl("network", "rm", "used", "kept");
    expect(refused).toMatchObject({
      exitCode: 1,
      stdout: "kept\n",
      stderr: "netctl: network used has active endpoints: used; remove them first\n",
    });
  });
});
