import { readFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { TestNamespace } from "#testing/test-namespace.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
let lan: TestNamespace;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "wire");
  lan = TestNamespace.create("lan");
  lab.host.run(`ip link add up0 type veth peer name lan0 netns ${lan.name}
    ip addr add 10.1.0.250/24 dev up0; ip link set up0 up`);
  lan.run("ip addr add 10.1.0.1/24 dev lan0; ip link set lan0 up");
});
afterEach(() => {
  lab.remove();
  lan.remove();
});

const plugin = async (network: string): Promise<unknown> => {
  const conflist = JSON.parse(await readFile(lab.path(`conf/${network}.conflist`), "utf8")) as {
    plugins: unknown[];
  };
  expect(conflist.plugins.slice(1)).toMatchObject([{ type: "dns" }]);
  return conflist.plugins[0];
};

describe("network create -d macvlan", () => {
  it("puts containers on the parent's wire, by the addresses and the way out that were given", async () => {
    const { stderr, exitCode } = await lab.netctl(
      ..."network create -d macvlan -o parent=up0 -o host_access=true home".split(" "),
      ..."--subnet 10.1.0.0/24 --gateway 10.1.0.1 --ip-range 10.1.0.128/25".split(" "),
    );
    expect([exitCode, stderr]).toEqual([0, ""]);
    await lab.ok("sandbox", "create", "alice", "--network", "home");
    for (const each of ["10.1.0.1", "10.1.0.250"])
      await lab.ok("sandbox", "exec", "alice", "--", "ping", "-c1", "-W10", each);
    expect(await lab.ok("sandbox", "exec", "alice", "--", "ip", "route")).toContain("default via 10.1.0.1");
    expect(JSON.parse(await lab.ok("network", "inspect", "home"))).toMatchObject([
      { Driver: "macvlan", IPAM: { Config: [{ Subnet: "10.1.0.0/24", Gateway: "10.1.0.1" }] } },
    ]);
    await lab.ok("sandbox", "rm", "alice");
    await lab.ok("network", "rm", "home");
    expect(lab.host.run("ip -o link")).not.toContain("mh-");
  });

  it("without parent has no way out", async () => {
    await lab.ok("network", "create", "-d", "macvlan", "closed");
    expect(await plugin("closed")).toMatchObject({ type: "macvlan", internal: true, ipam: { routes: [] } });
    for (const name of ["a", "b"]) await lab.ok("sandbox", "create", name, "--network", "closed");
    const [address = ""] = (
      await lab.ok("sandbox", "exec", "b", "--", "ip", "-o", "-4", "addr", "show", "eth0")
    ).match(/\d+(\.\d+){3}/) ?? [""];
    await lab.ok("sandbox", "exec", "a", "--", "ping", "-c1", "-W10", address);
    // Names don't come by the wire, on which the host can't be reached.
    for (const name of ["b", "b.closed"])
      expect(await lab.ok("sandbox", "exec", "a", "--", "getent", "ahostsv4", name)).toContain(address);
    expect(await lab.ok("sandbox", "exec", "a", "--", "getent", "hosts", address)).toContain("b.closed");
    expect(await lab.ok("sandbox", "exec", "a", "--", "ip", "route")).not.toContain("default");
    for (const name of ["a", "b"]) await lab.ok("sandbox", "rm", name);
    expect(lab.host.run("ip -o link")).not.toContain("dm-");
  });

  it("leaves the addresses to the wire's DHCP server, or to nobody", async () => {
    await lab.ok("network", "create", "-d", "macvlan", "-o", "parent=up0", "--ipam-driver", "dhcp", "home");
    expect(await plugin("home")).toEqual({
      type: "macvlan",
      master: "up0",
      capabilities: { mac: true, ips: true },
      ipam: { type: "dhcp" },
    });
    const both = "network create -d macvlan -o parent=up0 --ipam-driver dhcp --ipv6 both";
    await lab.ok(...both.split(" "));
    expect(await plugin("both")).toMatchObject({ ipam: { type: "dhcp", families: ["ipv4", "ipv6"] } });
    await lab.ok("network", "create", "-d", "macvlan", "-o", "parent=up0", "--ipam-driver", "none", "bare");
    expect(await plugin("bare")).not.toHaveProperty("ipam");
    expect((await lab.netctl("network", "create", "--ipam-driver", "dhcp", "web")).stderr).toContain(
      "Cannot use --ipam-driver dhcp",
    );
  });
});

it("network create -d ipvlan knows its modes and flags", async () => {
  await lab.ok(
    ..."network create -d ipvlan -o parent=up0.10 -o ipvlan_mode=l3".split(" "),
    ..."-o ipvlan_flag=private --subnet 10.7.0.0/24 far".split(" "),
  );
  expect(await plugin("far")).toMatchObject({
    type: "ipvlan",
    master: "up0.10",
    mode: "l3",
    flag: "private",
    capabilities: { ips: true },
    ipam: { routes: [{ dst: "0.0.0.0/0", scope: 253 }] },
  });
});

it.each([
  [["-d", "macvlan", "-o", "parent=up9"], "Cannot use parent up9: the host has no such link"],
  [["-d", "macvlan", "-o", "parent=up0.4095"], "the host has no such link"],
  [["-d", "macvlan", "-o", "parent=up0", "-o", "mtu=9000"], "packets of parent up0 have 1500 bytes at most"],
  [["-d", "macvlan", "-o", "parent=lo"], "it is the loopback interface"],
  [["-d", "macvlan", "-o", "macvlan_mode=l2"], "expected one of bridge, private, vepa, passthru"],
  [["-d", "ipvlan", "-o", "host_access=true"], 'Cannot use option "host_access" with driver ipvlan'],
  [["-d", "macvlan", "-o", "mode=private", "-o", "host_access=true"], "it needs mode bridge"],
  [["-d", "macvlan", "--ipam-driver", "dhcp", "--subnet", "10.1.0.0/24"], "Cannot use --subnet"],
])("network create %j is refused, and says why", async (flags, message) => {
  const { exitCode, stderr } = await lab.netctl("network", "create", ...flags, "x");
  expect(exitCode).not.toBe(0);
  expect(stderr).toContain(message);
  expect(await lab.ok("network", "ls")).not.toContain(" x ");
});
