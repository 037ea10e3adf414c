import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { askOnce, startServer } from "#testing/traffic.ts";

/** docs/troubleshooting.md: each is broken on purpose, and what the guide says to run must name the cause. */

let suite: BuiltSuite;
let lab: SuiteLab;
let outside: TestNamespace;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "trouble");
  outside = TestNamespace.create("trouble-outside");
  lab.host.run(`for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo 0 > $f; done
    ip link add up0 type veth peer name eth0 netns ${outside.name}
    ip addr add 203.0.113.1/24 dev up0; ip link set up0 up; ip route add default via 203.0.113.2`);
  outside.run("ip addr add 203.0.113.2/24 dev eth0; ip link set eth0 up");
});
afterEach(() => {
  lab.remove();
  outside.remove();
});

const doctor = async (...checks: readonly string[]) => {
  const { exitCode, stdout } = await lab.netctl("doctor", ...checks);
  return { exitCode, stdout };
};
const plain = async () => {
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", "--disable-dns");
  await lab.ok("sandbox", "create", "a", "--network", "web", "-p", "8080:80");
};

describe("can't resolve", () => {
  const resolvConf = (text: string) => writeFileSync(lab.path("resolv.conf"), text);

  test("nobody answers: netd has gone", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    expect(await lab.netctl("dns", "query", "--from", "a", "a")).toMatchObject({ exitCode: 0 });
    for (const file of readdirSync(lab.path("run")).filter((name) => name.endsWith(".lock"))) {
      process.kill(Number(readFileSync(lab.path("run", file), "utf8")), "SIGKILL");
    }
    await expect
      .poll(async () => (await doctor("names")).stdout, { timeout: 20_000 })
      .toContain("names-unanswered");
    expect((await lab.netctl("dns", "query", "--from", "a", "a")).stderr).toContain(
      "Cannot ask the resolver",
    );
  });

  test.each([
    ["127.0.0.11", "names-loop"],
    ["198.51.100.53", "names-server-unreachable"],
    ["", "names-no-server"],
  ])("the host asks the wrong one: %s", async (server, id) => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    if (id === "names-server-unreachable") lab.host.run("ip route del default");
    resolvConf(server === "" ? "" : `nameserver ${server}\n`);
    const { stdout } = await lab.netctlWith(
      { NETCTL_RESOLV_CONF: lab.path("resolv.conf") },
      "doctor",
      "names",
    );
    expect(stdout).toContain(id);
  });
});

describe("can't reach the outside", () => {
  test("the host passes nothing on", async () => {
    await plain();
    lab.host.run("sysctl -qw net.ipv4.ip_forward=0");
    expect((await doctor()).stdout).toContain("forwarding-off");
    expect((await lab.netctl("trace", "a", "203.0.113.2")).stdout).toContain("net.ipv4.ip_forward is 0");
  });

  test("another firewall drops it", async () => {
    await plain();
    lab.host.run(
      "nft add table ip fw; nft add chain ip fw f '{ type filter hook forward priority 0; policy drop; }'",
    );
    const { exitCode, stdout } = await doctor();
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/error {2}foreign-firewall {2}web\n.*table ip fw, chain f/);
    expect((await lab.netctl("trace", "a", "203.0.113.2", "--probe")).stdout).toContain(
      "✗ ip fw f: policy: drop",
    );
  });
});

describe("a published port is not reachable", () => {
  test("nobody listens in the container", async () => {
    await plain();
    expect(await lab.ok("port", "a")).toContain("80/tcp -> 0.0.0.0:8080");
    const { exitCode, stdout } = await lab.netctl("trace", "host", "a:80");
    expect(exitCode).toBe(1);
    expect(stdout).toContain("nobody listens on tcp port 80");
  });

  test("its rule was taken away", async () => {
    await plain();
    const stop = await startServer(lab.namespace(lab.path("run/netns/a")), "a", [80]);
    try {
      lab.host.run("nft delete element inet netctl ports4 '{ tcp . 8080 }'");
      const { exitCode, stdout } = await doctor("own-rules");
      expect(exitCode).toBe(1);
      expect(stdout).toMatch(/own-rules-missing[\s\S]*ports4/);
      await lab.ok("repair");
      expect(await doctor("own-rules")).toMatchObject({ exitCode: 0 });
      const answer = await askOnce(outside, { protocol: "tcp", to: "203.0.113.1", port: 8080 });
      expect(answer).toBe("a sees 203.0.113.2");
    } finally {
      stop();
    }
  });
});

test("slow: packets are longer than the way out takes", async () => {
  await plain();
  expect(await doctor("mtu")).toMatchObject({ exitCode: 0 });
  lab.host.run("ip link set up0 mtu 1400");
  const { exitCode, stdout } = await doctor("mtu");
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/mtu-above-uplink {2}web\n.*up to 1500 bytes .*up0, the way out, takes 1400/);
});
