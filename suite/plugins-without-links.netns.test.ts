import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Outcome } from "#cni/plugin.ts";
import { runVerb } from "#cni/skel.ts";
import { HostKernel } from "#kernel/host-kernel.ts";
import { silentLog } from "#machine/log.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { openHost } from "./host.ts";
import { loadPlugin } from "./plugins.ts";

let container: TestNamespace;
let hostNamespace: TestNamespace;
let scratch: string;

beforeEach(() => {
  container = TestNamespace.create("container");
  container.run("ip link set lo down");
  hostNamespace = TestNamespace.create("host");
  scratch = mkdtempSync(join(tmpdir(), "netctl-suite-"));
});

afterEach(() => {
  container.remove();
  hostNamespace.remove();
  rmSync(scratch, { recursive: true, force: true });
});

/** Runs a verb with `hostNamespace` in the part of the host. */
async function call(
  type: string,
  verb: string,
  extra: object = {},
  netns = container.path,
): Promise<Outcome> {
  const environment = { NETCTL_STATE_DIR: scratch, NETCTL_RUN_DIR: scratch };
  const real = openHost(environment, silentLog);
  const kernel = HostKernel.open({ namespacePath: hostNamespace.path });
  const identity = identifyNamespace(hostNamespace.path);
  const plugin = await loadPlugin(type);
  if (typeof identity === "string" || !plugin) throw new Error("no host namespace, or no such plugin");
  try {
    return await runVerb(
      plugin,
      {
        environment: {
          CNI_COMMAND: verb,
          CNI_CONTAINERID: "c1",
          CNI_IFNAME: "eth0",
          CNI_NETNS: netns,
          CNI_PATH: "/nonexistent",
        },
        stdin: JSON.stringify({ cniVersion: "1.1.0", name: "net", type, ...extra }),
      },
      { ...real, kernel, hostNamespace: identity },
    );
  } finally {
    kernel.close();
    await real.close();
  }
}

const isLoUp = () => container.run("ip -br link show lo").includes("UP");

describe.each(["loopback", "none"])("%s", (type) => {
  it("brings lo up on ADD, so that the container can talk to itself, and down on DEL", async () => {
    const added = await call(type, "ADD");
    expect(added).toMatchObject({ exitCode: 0 });
    expect(JSON.parse(added.stdout)).toMatchObject({
      cniVersion: "1.1.0",
      interfaces: [{ name: "lo", mac: "00:00:00:00:00:00", sandbox: container.path }],
      ips: [
        { address: "127.0.0.1/8", interface: 0 },
        { address: "::1/128", interface: 0 },
      ],
    });
    container.run("ping -c1 -W10 127.0.0.1");
    expect(await call(type, "DEL")).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    expect(isLoUp()).toBe(false);
  });

  it("notices on CHECK that lo is down", async () => {
    const { stdout } = await call(type, "ADD");
    const prevResult: unknown = JSON.parse(stdout);
    expect(await call(type, "CHECK", { prevResult })).toMatchObject({ exitCode: 0 });
    container.run("ip link set lo down");
    const checked = await call(type, "CHECK", { prevResult });
    expect(checked.exitCode).toBe(1);
    expect(JSON.parse(checked.stdout)).toMatchObject({ msg: "loopback interface is down" });
  });

  it("refuses an lo that carries another address", async () => {
    container.run("ip addr add 192.0.2.1/32 dev lo");
    const { exitCode, stdout } = await call(type, "ADD");
    expect(exitCode).toBe(1);
    expect(stdout).toContain("192.0.2.1/32");
    expect(isLoUp()).toBe(false);
  });

  it("never takes the host's own lo down, whatever namespace a DEL names", async () => {
    const { exitCode, stdout } = await call(type, "DEL", {}, hostNamespace.path);
    expect([exitCode, (JSON.parse(stdout) as { code: number }).code]).toEqual([1, 8]);
    expect(hostNamespace.run("ip -br link show lo")).toContain("UP");
  });

  it("succeeds on DEL where the namespace is gone", async () => {
    expect(await call(type, "DEL", {}, "/run/netns/no-such")).toMatchObject({ exitCode: 0 });
    expect(await call(type, "DEL", {}, "")).toMatchObject({ exitCode: 0 });
  });
});

describe("host", () => {
  it("answers with the host's interfaces and addresses, and makes nothing", async () => {
    hostNamespace.run("ip link add up0 type veth peer down0; ip addr add 192.0.2.7/24 dev up0");
    const before = hostNamespace.run("ip -j addr");
    const { exitCode, stdout } = await call("host", "ADD", {}, hostNamespace.path);
    expect(exitCode).toBe(0);
    const result = JSON.parse(stdout) as {
      interfaces: { name: string }[];
      ips: { address: string; interface: number }[];
    };
    const ip = result.ips.find(({ address }) => address === "192.0.2.7/24");
    expect(result.interfaces[ip?.interface ?? -1]).toMatchObject({
      name: "up0",
      sandbox: hostNamespace.path,
    });
    expect(hostNamespace.run("ip -j addr")).toBe(before);
  });

  it("refuses with code 8 a namespace that is not the host's", async () => {
    const { exitCode, stdout } = await call("host", "ADD");
    expect([exitCode, (JSON.parse(stdout) as { code: number }).code]).toEqual([1, 8]);
  });

  it("notices on CHECK that an interface of the result is gone", async () => {
    hostNamespace.run("ip link add up0 type veth peer down0");
    const { stdout } = await call("host", "ADD", {}, hostNamespace.path);
    hostNamespace.run("ip link del up0");
    const prevResult: unknown = JSON.parse(stdout);
    const checked = await call("host", "CHECK", { prevResult }, hostNamespace.path);
    expect(checked.exitCode).toBe(1);
    expect(checked.stdout).toContain("up0");
  });
});
