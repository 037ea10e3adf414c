import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { TestNamespace } from "#testing/test-namespace.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
/** A host on which nothing is done but what the plan says. */
let twin: TestNamespace;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "plan");
  twin = TestNamespace.create("plan-twin");
});
afterEach(() => {
  lab.remove();
  twin.remove();
});

interface Plan {
  readonly commands: readonly string[];
  readonly result: { readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[] };
}
const planOf = async (...words: readonly string[]) =>
  JSON.parse(await lab.ok("plan", "--json", ...words)) as Plan;

interface Address {
  readonly family: string;
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
}
interface LinkJson {
  readonly ifname: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly master?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_slave_data?: { readonly hairpin: boolean; readonly isolated: boolean };
    readonly info_data?: { readonly vlan_filtering?: number; readonly mode?: string };
  };
  readonly addr_info: readonly Address[];
}
interface RouteJson {
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly metric?: number;
  readonly protocol?: string;
}

/** What iproute2, nft and /proc/sys say of a namespace; without what is random (MAC addresses and what follows from them). */
function stateOf(namespace: TestNamespace) {
  const links = namespace.json<LinkJson>("ip -j -d addr");
  const routes = [
    ...namespace.json<RouteJson>("ip -j route"),
    ...namespace.json<RouteJson>("ip -j -6 route"),
  ];
  const conf = links
    .map(({ ifname }) => ifname)
    .filter((name) => name !== "lo")
    .flatMap((name) =>
      [
        "ipv4/conf/NAME/route_localnet",
        "ipv4/conf/NAME/arp_notify",
        "ipv6/conf/NAME/accept_ra",
        "ipv6/conf/NAME/accept_dad",
      ].map((key) => key.replace("NAME", name)),
    );
  const keys = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", ...conf];
  return {
    links: links
      .map(({ ifname, mtu, flags, master, linkinfo, addr_info }) => ({
        ifname,
        mtu,
        up: flags.includes("UP"),
        master,
        kind: linkinfo?.info_kind,
        mode: linkinfo?.info_data?.mode,
        hairpin: linkinfo?.info_slave_data?.hairpin,
        isolated: linkinfo?.info_slave_data?.isolated,
        addresses: addr_info
          .filter(({ local }) => !local.startsWith("fe80:"))
          .map(({ local, prefixlen, scope }) => `${local}/${prefixlen} ${scope}`),
      }))
      .sort((a, b) => (a.ifname < b.ifname ? -1 : 1)),
    routes: routes.map(({ dst, gateway, dev, metric }) => `${dst} ${gateway} ${dev} ${metric}`).sort(),
    sysctls: namespace.run(keys.map((key) => `echo ${key} $(cat /proc/sys/net/${key})`).join("\n")),
    ruleset: namespace.run("nft -s list ruleset"),
  };
}

/** Carries a plan out on the twin, with a namespace for the container; both are then as after an ADD. */
async function compare(words: readonly string[], add: () => Promise<unknown>, container: string) {
  const { commands } = await planOf(...words);
  const inside = TestNamespace.create("plan-inside");
  try {
    twin.run(commands.join("\n").replaceAll("CONTAINER", inside.name));
    await add();
    expect(stateOf(twin)).toEqual(stateOf(lab.host));
    expect(stateOf(inside)).toEqual(stateOf(lab.namespace(lab.path("run/netns", container))));
  } finally {
    inside.remove();
  }
}

it("says what ADD does: its commands make the same of another host, for the first container and the next", async () => {
  await lab.ok(
    "network",
    "create",
    "web",
    "--subnet",
    "10.1.0.0/24",
    "--subnet",
    "fd01::/64",
    "-o",
    "mtu=1400",
  );
  await compare(
    ["web", "--name", "a", "-p", "8080:80"],
    () => lab.ok("sandbox", "create", "a", "--network", "web", "-p", "8080:80"),
    "a",
  );
  const { commands } = await planOf(
    "web",
    "--name",
    "b",
    "--ip",
    "10.1.0.77",
    "--mac-address",
    "02:00:00:00:00:77",
  );
  expect(commands.join("\n")).not.toMatch(/type bridge|table inet netctl/);
  const inside = TestNamespace.create("plan-inside");
  try {
    twin.run(commands.join("\n").replaceAll("CONTAINER", inside.name));
    await lab.ok("sandbox", "create", "b", "--network", "web:ip=10.1.0.77,mac=02:00:00:00:00:77");
    // The first container's end is gone on the twin, with its namespace.
    const { links, routes, ruleset, sysctls } = stateOf(twin);
    const real = stateOf(lab.host);
    const isOfA = ({ ifname }: { readonly ifname: string }) => links.every((each) => each.ifname !== ifname);
    expect(links).toEqual(real.links.filter((link) => !isOfA(link)));
    expect(real.links.filter(isOfA)).toHaveLength(1);
    expect({ routes, ruleset }).toEqual({ routes: real.routes, ruleset: real.ruleset });
    expect(sysctls).toContain("ipv4/ip_forward 1\n");
    expect(stateOf(inside)).toEqual(stateOf(lab.namespace(lab.path("run/netns/b"))));
  } finally {
    inside.remove();
  }
});

it("plans a file that is not installed, of any plugins, and leaves nothing behind", async () => {
  const list = {
    cniVersion: "1.0.0",
    name: "p2p",
    plugins: [
      {
        type: "ptp",
        ipMasq: true,
        mtu: 1300,
        ipam: { type: "host-local", subnet: "10.3.0.0/24", routes: [{ dst: "0.0.0.0/0" }] },
      },
      { type: "tuning", sysctl: { "net.ipv4.conf.eth0.log_martians": "1" } },
      { type: "firewall" },
    ],
  };
  await mkdir(lab.path("conf"));
  await writeFile(lab.path("new.conflist"), JSON.stringify(list));
  const before = stateOf(lab.host);
  const { commands, result } = await planOf(lab.path("new.conflist"), "--name", "c");
  expect(stateOf(lab.host)).toEqual(before);
  expect(commands).toContain("ip netns exec CONTAINER sysctl -w net/ipv4/conf/eth0/log_martians=1");
  expect(result.interfaces.find(({ name }) => name === "eth0")?.sandbox).toBe("CONTAINER");
  expect((await readdir(lab.path("run"))).filter((name) => name.startsWith("plan-"))).toEqual([]);
  expect((await readFile("/proc/mounts", "utf8")).includes(lab.path("run/plan-"))).toBe(false);

  await writeFile(lab.path("conf/10-p2p.conflist"), JSON.stringify(list));
  await compare(["p2p", "--name", "c"], () => lab.ok("sandbox", "create", "c", "--network", "p2p"), "c");
});

it("shows what is this container's, and the rules of every host on demand", async () => {
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", "--disable-dns");
  const shown = await lab.ok("plan", "web");
  expect(shown).toMatch(/^# ADD of eth0 in network web: 10\.1\.0\.2\/24\./);
  expect(shown).toContain("# table inet netctl is loaded before: the same on every host, shown by --full\n");
  expect(shown).toMatch(/^add element inet netctl masquerade4 \{ 10\.1\.0\.2 comment /m);
  expect(shown).toContain("ip -n CONTAINER route add default via 10.1.0.1 dev eth0\n");
  expect(shown).not.toContain("chain forward");
  expect(await lab.ok("plan", "web", "--full")).toContain("chain forward");
});

it("fails as the ADD would, and refuses what it can't try", async () => {
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/30");
  await lab.ok("sandbox", "create", "a", "--network", "web");
  const full = await lab.netctl("plan", "web");
  expect(full).toMatchObject({ exitCode: 1, stdout: "" });
  expect(full.stderr).toMatch(/plugin bridge failed ADD .*no IP addresses available/i);
  const write = (plugins: unknown) =>
    writeFile(lab.path("conf/x.conflist"), JSON.stringify({ cniVersion: "1.0.0", name: "x", plugins }));
  await write([{ type: "aws-cni" }]);
  expect((await lab.netctl("plan", "x")).stderr).toBe(
    "netctl: Cannot plan an ADD of aws-cni: what that program does is not known here, so it was not run\n",
  );
  await write([{ type: "bridge", ipam: { type: "dhcp" } }]);
  expect((await lab.netctl("plan", "x")).stderr).toMatch(
    /^netctl: Cannot plan an ADD of dhcp: the address is a server's/,
  );
  expect((await lab.netctl("plan", "web", "-p", "80")).exitCode).toBe(2);
  expect(await lab.netctl("plan", "nowhere")).toMatchObject({ exitCode: 1 });
  expect((await readdir(lab.path("run"))).filter((name) => name.startsWith("plan-"))).toEqual([]);
});
