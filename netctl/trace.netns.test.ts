import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { startServer } from "#testing/traffic.ts";
import { stepsIn } from "./trace/probe.ts";
import { parseTarget } from "./trace.ts";

describe("parseTarget()", () => {
  it.each([
    ["bob", "bob", { protocol: "icmp" }],
    ["bob:80", "bob", { protocol: "tcp", port: 80 }],
    ["192.0.2.1:53/udp", "192.0.2.1", { protocol: "udp", port: 53 }],
    ["2001:db8::1", "2001:db8::1", { protocol: "icmp" }],
    ["[2001:db8::1]:443", "2001:db8::1", { protocol: "tcp", port: 443 }],
  ])("reads %s", (text, target, flow) => {
    expect(parseTarget(text)).toEqual({ target, flow });
  });

  it.each(["", ":80", "bob:0", "bob:65536", "bob:80/sctp"])("refuses %j", (text) => {
    expect(() => parseTarget(text)).toThrow(/Cannot use/);
  });
});

test("stepsIn() takes each chain's first packet", () => {
  const text = `trace id 1a inet netctl_trace prerouting rule meta nftrace set 1 (verdict continue)
trace id 1a inet netctl raw_prerouting verdict continue
trace id 1a inet netctl raw_prerouting policy accept
trace id 2b inet netctl forward packet: iif "br0" oif "br1"
trace id 2b inet netctl forward rule iifname @internal drop (verdict drop)
trace id 3c inet netctl forward rule ct status dnat accept (verdict accept)
`;
  expect(stepsIn(text)).toEqual([
    { chain: "inet netctl raw_prerouting", rule: "policy", verdict: "accept" },
    { chain: "inet netctl forward", rule: "iifname @internal drop", verdict: "drop" },
  ]);
});

/** Each scenario is broken on purpose, and the cause must be named. */
describe("netctl trace", () => {
  let suite: BuiltSuite;
  let lab: SuiteLab;
  let lan: TestNamespace;
  let stopServer: () => void;
  beforeAll(async () => {
    suite = await buildSuite();
    lab = new SuiteLab(suite, "trace");
    lan = TestNamespace.create("trace-lan");
    lab.host.run(`ip link add up0 type veth peer name eth0 netns ${lan.name}; ip link set up0 up
      ip addr add 203.0.113.1/24 dev up0`);
    lan.run("ip link set eth0 up; ip addr add 203.0.113.2/24 dev eth0");
    await lab.ok("network", "create", "web");
    await lab.ok("network", "create", "other");
    await lab.ok("network", "create", "db", "--internal");
    await lab.ok("sandbox", "create", "alice", "--network", "web", "-p", "8080:80");
    await lab.ok("sandbox", "create", "bob", "--network", "web");
    await lab.ok("sandbox", "create", "carol", "--network", "db");
    await lab.ok("sandbox", "create", "dave", "--network", "other");
    stopServer = await startServer(lab.namespace(lab.path("run/netns/alice")), "alice", [80]);
  });
  afterAll(() => {
    stopServer();
    lab.remove();
    lan.remove();
    suite.remove();
  });

  test("says that neighbours reach each other, and by which rule", async () => {
    const { exitCode, stdout } = await lab.netctl("trace", "bob", "alice:80", "--probe");
    expect(stdout).toContain("a program listens on");
    expect(stdout).toContain("iifname . oifname @same_bridge accept");
    expect(stdout).toContain("probe: answered");
    expect(exitCode).toBe(0);
  });

  test("starts at a namespace that nobody has a record of, by the name of its file", async () => {
    const { exitCode, stdout } = await lab.netctl("trace", lan.name, "203.0.113.1");
    expect(stdout).toContain(`✓ ${lan.name}: route to 203.0.113.1: through eth0`);
    expect(exitCode).toBe(0);
    const { stderr } = await lab.netctl("trace", "nobody", "203.0.113.1");
    expect(stderr).toBe('netctl: No sandbox, container, process or namespace "nobody"\n');
  });

  test("names a port on which nobody listens", async () => {
    const { exitCode, stdout } = await lab.netctl("trace", "bob", "alice:81");
    expect(stdout).toContain("✗ alice: nobody listens on tcp port 81");
    expect(exitCode).toBe(1);
  });

  test("follows a published port, from the wire as from another network", async () => {
    for (const from of ["dave", lan.path]) {
      const { exitCode, stdout } = await lab.netctl("trace", from, "203.0.113.1:8080", "--probe");
      expect(stdout).toMatch(/203\.0\.113\.1 port 8080 leads to \S+ port 80/);
      expect(stdout).toContain("ct status seen-reply,dnat");
      expect(exitCode, from).toBe(0);
    }
  });

  test("names the rule that isolates networks", async () => {
    const { exitCode, stdout } = await lab.netctl("trace", "dave", "alice:80", "--probe");
    expect(stdout).toMatch(/✗ inet netctl forward: .*@isolated_networks.*drop/);
    expect(stdout).toContain("remedy: networks are isolated");
    expect(exitCode).toBe(1);
  });

  test("says that an internal network has no way out", async () => {
    const { stdout } = await lab.netctl("trace", "carol", "203.0.113.2");
    expect(stdout).toContain("✗ carol: route to 203.0.113.2: network is unreachable");
  });

  test("names another program's chain, and leaves no table behind", async () => {
    lab.host.run(
      "nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 10; policy drop; }'",
    );
    try {
      const { exitCode, stdout } = await lab.netctl("trace", "bob", "203.0.113.2", "--probe");
      expect(stdout).toContain("✗ inet fw f: policy: drop");
      expect(stdout).toContain("nft list chain inet fw f");
      expect(exitCode).toBe(1);
    } finally {
      lab.host.run("nft delete table inet fw");
    }
    expect(lab.host.run("nft list tables")).not.toContain("netctl_trace");
  });

  test("names a host that does not forward", async () => {
    lab.host.run("sysctl -qw net.ipv4.ip_forward=0");
    try {
      const { stdout } = await lab.netctl("trace", "bob", "203.0.113.2");
      expect(stdout).toContain("✗ host: net.ipv4.ip_forward is 0");
      expect(stdout).toContain("remedy: sysctl -w net.ipv4.ip_forward=1");
      // Which neighbours on a bridge do without.
      expect(await lab.netctl("trace", "bob", "alice:80")).toMatchObject({ exitCode: 0 });
    } finally {
      lab.host.run("sysctl -qw net.ipv4.ip_forward=1");
    }
  });

  test("answers as JSON", async () => {
    const { stdout } = await lab.netctl("trace", "bob", "alice:81", "--json");
    expect(JSON.parse(stdout)).toMatchObject({
      from: "bob",
      to: "alice",
      protocol: "tcp",
      port: 81,
      reaches: false,
      hops: expect.arrayContaining([expect.objectContaining({ at: "alice", verdict: "stop" })]),
    });
  });

  test.each([
    [["nobody", "alice"], 1, 'No sandbox, container, process or namespace "nobody"'],
    [["bob", "alice:http"], 2, 'Cannot use "alice:http" as a target'],
  ])("refuses %j", async (words, exitCode, message) => {
    const ended = await lab.netctl("trace", ...words);
    expect(ended.exitCode).toBe(exitCode);
    expect(ended.stderr).toContain(message);
  });
});
