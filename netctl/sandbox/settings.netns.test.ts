import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "settings");
});
afterEach(() => lab.remove());

const inside = (name: string, script: string) => lab.ok("sandbox", "exec", name, "--", "sh", "-c", script);

it("gives a sandbox what docker run's flags ask for, and keeps it when networks change", async () => {
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", "--disable-dns");
  await lab.ok("network", "create", "back", "--subnet", "10.2.0.0/24", "--disable-dns");
  const flags = [
    "--network name=web,ip=10.1.0.20,mac-address=02:00:00:00:00:20,driver-opt=com.docker.network.endpoint.ifname=lan0",
    "--hostname app1 --dns 192.0.2.53 --dns-search x.test --dns-option ndots:2",
    "--add-host db:10.9.0.1 --add-host outer:host-gateway",
    "--sysctl net.ipv4.ip_default_ttl=99 --sysctl net.ipv4.conf.lan0.rp_filter=2 --label tier=web",
  ];
  await lab.ok("sandbox", "create", "a", ...flags.join(" ").split(" "));
  const seen = () =>
    inside(
      "a",
      "hostname; cat /etc/resolv.conf; grep -v localhost /etc/hosts; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/conf/lan0/rp_filter /sys/class/net/lan0/address",
    );
  const expected = [
    "app1",
    "search x.test\nnameserver 192.0.2.53\noptions ndots:2",
    "10.1.0.20\tapp1 a\n10.9.0.1\tdb\n10.1.0.1\touter",
    "99\n2\n02:00:00:00:00:20\n",
  ].join("\n");
  expect(await seen()).toBe(expected);
  await lab.ok("network", "connect", "back", "a");
  expect(await seen()).toBe(expected.replace("app1 a\n", "app1 a\n10.2.0.2\tapp1 a\n"));
});

it("tells the resolver whom to ask, in a network with names", async () => {
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
  await lab.ok("sandbox", "create", "a", "--network", "web", "--dns", "192.0.2.53", "--dns-search", "x.test");
  expect(await inside("a", "cat /etc/resolv.conf")).toBe("search x.test\nnameserver 127.0.0.11\n");
  expect(await lab.ok("dns", "ls", "--json")).toContain("192.0.2.53");
});

it("takes all of it back where the kernel refuses a value, and refuses what would be the host's", async () => {
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", "--disable-dns");
  const refused = await lab.netctl(
    "sandbox",
    "create",
    "a",
    "--network",
    "web",
    "--sysctl",
    "net.ipv4.no_such=1",
  );
  expect(refused.exitCode).toBe(125);
  expect(refused.stderr).toMatch(/^netctl: .*net\/ipv4\/no_such/);
  expect(await lab.ok("sandbox", "ls", "-q")).toBe("");
  expect(
    await lab.netctl("sandbox", "create", "a", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1"),
  ).toMatchObject({
    exitCode: 125,
    stderr:
      "netctl: Cannot use --sysctl net.ipv4.ip_forward=1 with --network host: it would be set for the host\n",
  });
});
