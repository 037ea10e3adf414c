import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";

let service: BuiltService;
let lab: ClusterLab;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  lab = await ClusterLab.start(service, 2);
});
afterEach(async () => await lab.remove());

interface Finding {
  readonly id: string;
  readonly subject: string;
  readonly evidence: string;
  readonly remedy: string;
}

/** What the doctor on the first host says of overlay networks. */
async function found(): Promise<readonly Finding[]> {
  const text = await lab
    .netctl(1, "doctor", "overlay", "--json")
    .catch((error: unknown) => (error as { readonly stdout: string }).stdout);
  return (JSON.parse(text) as { readonly findings: readonly Finding[] }).findings;
}
const onWire = (rule: string) =>
  lab.underlay.wire.run(`nft add table bridge broken
    nft add chain bridge broken f "{ type filter hook forward priority 0; }"
    nft add rule bridge broken f '${rule}'`);
const mendWire = () => lab.underlay.wire.run("nft delete table bridge broken");

describe("netctl doctor overlay tries the ways to the other hosts", () => {
  testWith(["vxlan"], "and names what breaks them, and what helps", async () => {
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "web");
    for (const host of [1, 2]) {
      await lab.until(`host ${host} knows the network`, async () =>
        (await lab.netctl(host, "network", "ls", "--json")).includes('"web"'),
      );
      await lab.sandbox(host, `s${host}`, "web");
    }
    // Nothing to say also means: the other host's agent was asked for a stream, and all of it came.
    await lab.until("all is well", async () => (await found()).length === 0);

    onWire("udp dport 4789 drop");
    expect(await found()).toEqual([
      expect.objectContaining({
        id: "overlay-port",
        subject: "h2",
        evidence: expect.stringMatching(/h2 answers at 203\.0\.113\.2, .*UDP 4789 is dropped/) as string,
        remedy: expect.stringContaining("let UDP 4789 pass between 203.0.113.1 and 203.0.113.2") as string,
      }),
    ]);
    mendWire();

    // Inside of VXLAN: IPv4's protocol, with more than a handful of bytes.
    onWire("udp dport 4789 udp length > 400 @th,312,8 6 drop");
    expect(await found()).toEqual([
      expect.objectContaining({
        id: "overlay-bulk",
        subject: "h2",
        remedy: expect.stringContaining("ethtool -K up0 tx-udp_tnl-segmentation off") as string,
      }),
    ]);
    mendWire();

    // A wire that loses a burst, as under load: for as long as a silent stream is waited for, and not much longer.
    onWire("udp dport 4789 udp length > 400 @th,312,8 6 quota until 24 kbytes drop");
    expect(await found()).toEqual([]);
    expect(lab.underlay.wire.run("nft list ruleset")).toMatch(/used 2\d kbytes/);
    mendWire();

    // A bridge drops what its port does not take, and tells nobody.
    lab.underlay.wire.run("ip link set p2 mtu 1400");
    expect(await found()).toEqual([
      expect.objectContaining({
        id: "overlay-path-mtu",
        subject: "h2",
        evidence: expect.stringMatching(
          /up to 1350 bytes arrive, .*web send up to 1450: .*1400 bytes, and drops longer ones without a word/,
        ) as string,
        remedy: expect.stringContaining("ip link set up0 mtu 1400") as string,
      }),
    ]);
    lab.underlay.wire.run("ip link set p2 mtu 1500");

    // Who is told what the way takes.
    lab.host(1).run("ip route add 203.0.113.2/32 dev up0 mtu 1400");
    const [told] = await found();
    expect(told).toMatchObject({ id: "overlay-path-mtu", subject: "h2" });
    expect(told?.evidence).toMatch(/up to 1350 bytes arrive.*the way takes 1400 bytes$/);
    // What was told is kept for ten minutes.
    lab.host(1).run("ip route del 203.0.113.2/32 dev up0 mtu 1400; ip route flush cache");

    onWire("ip daddr 203.0.113.2 ip saddr 203.0.113.1 drop");
    expect(await found()).toEqual([expect.objectContaining({ id: "overlay-host-silent", subject: "h2" })]);
    mendWire();
    await lab.until("all is well again", async () => (await found()).length === 0);
    // Nothing stays in etcd of what was asked for.
    expect(await lab.etcdctl("get", "--prefix", "/netctl/v1/default/bulk/")).toBe("");
  });

  /** A network that both hosts know, with a container on each; the address of the second one. */
  async function joined(name: string, ...words: readonly string[]): Promise<string> {
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", ...words, name);
    const addresses: string[] = [];
    for (const host of [1, 2]) {
      await lab.until(`host ${host} knows the network`, async () =>
        (await lab.netctl(host, "network", "ls", "--json")).includes(`"${name}"`),
      );
      addresses.push(await lab.sandbox(host, `s${host}`, name));
    }
    await lab.untilPings(1, "s1", addresses[1] ?? "");
    await lab.until("all is well", async () => (await found()).length === 0);
    return addresses[1] ?? "";
  }
  const ids = (findings: readonly Finding[]) => findings.map(({ id }) => id);

  testWith(["vxlan"], "of a network of mode l2 as well, and what the bridges need for it", async () => {
    const there = await joined("flat", "--opt", "mode=l2");
    for (const [damage, id, evidence] of [
      ["udp dport 4789 drop", "overlay-port", /h2 answers at 203\.0\.113\.2, .*network flat: UDP 4789 is/],
      ["udp dport 4789 udp length > 400 @th,312,8 6 drop", "overlay-bulk", /of a TCP stream in network flat/],
      ["udp dport 4789 udp length > 1300 drop", "overlay-path-mtu", /of network flat send up to 1450/],
    ] as const) {
      onWire(damage);
      expect(await found()).toEqual([
        expect.objectContaining({ id, subject: "h2", evidence: expect.stringMatching(evidence) as string }),
      ]);
      mendWire();
    }

    // Nobody mends it.
    await lab.killNetd(1);
    const links = lab.host(1).run("ip -o link show type vxlan");
    const [, tunnel = ""] = /: (nv[0-9a-z]+):/.exec(links) ?? [];
    const [, bridge = ""] = /master (\S+)/.exec(links) ?? [];
    const neighbour = lab.host(1).run(`ip neigh show ${there} dev ${bridge}`);
    const [, mac = ""] = /lladdr (\S+)/.exec(neighbour) ?? [];
    for (const [damage, evidence] of [
      [`bridge fdb del ${mac} dev ${tunnel} self`, `has h2, and the kernel lacks forwarding entry ${mac}`],
      [
        `ip neigh replace ${there} dev ${bridge} lladdr 02:00:00:00:00:99 nud permanent`,
        `has h2, and the kernel lacks neighbour ${there} at ${mac}`,
      ],
      [`bridge link set dev ${tunnel} flood on neigh_suppress off`, `port ${tunnel} of ${bridge} has`],
      [`ip link set ${tunnel} nomaster`, `tunnel ${tunnel} is no port of ${bridge}`],
    ] as const) {
      lab.host(1).run(damage);
      const broken = (await found()).filter(({ id }) => id === "overlay-kernel");
      expect(broken).toEqual([expect.objectContaining({ subject: "flat" })]);
      expect(broken[0]?.evidence).toContain(evidence);
      lab.startNetd(1);
      await lab.until("netd has mended it", async () => (await found()).length === 0);
      await lab.untilPings(1, "s1", there);
      await lab.killNetd(1);
    }
    await lab.until("the agent is missed", async () => ids(await found()).includes("overlay-agent"));
    lab.host(1).run(`bridge fdb del ${mac} dev ${tunnel} self`);
    const [agent, kernel] = await found();
    expect(agent?.id).toBe("overlay-agent");
    expect(kernel?.remedy).toContain("start netd");
  });

  testWith(["vxlan", "wireguard-go"], "of encrypted networks, of both modes", async () => {
    for (const words of [[], ["--opt", "mode=l2"]]) {
      await joined("secret", "--opt", "encrypted", ...words);
      onWire("udp dport 51842 drop");
      const [port, ...others] = await found();
      expect(others).toEqual([]);
      expect(port).toMatchObject({ id: "overlay-port", subject: "h2" });
      expect(port?.evidence).toMatch(/nothing comes by WireGuard in network secret: UDP 51842 is dropped/);
      mendWire();
      await lab.until("all is well again", async () => (await found()).length === 0);

      lab.underlay.wire.run("ip link set p2 mtu 1400");
      const [long, ...rest] = await found();
      expect(rest).toEqual([]);
      expect(long).toMatchObject({ id: "overlay-path-mtu", subject: "h2" });
      // WireGuard sends multiples of sixteen bytes.
      expect(long?.evidence).toMatch(/of network secret send up to 1370: the way takes 1388 bytes/);
      lab.underlay.wire.run("ip link set p2 mtu 1500");
      for (const host of [1, 2]) await lab.netctl(host, "sandbox", "rm", `s${host}`);
      await lab.netctl(1, "network", "rm", "secret");
    }
  });

  testWith(["vxlan"], "and a way that the kernel does not have", async () => {
    const there = await joined("web");
    await lab.killNetd(1);
    const [, tunnel = ""] = /: (nv[0-9a-z]+):/.exec(lab.host(1).run("ip -o link show type vxlan")) ?? [];
    for (const damage of [
      `bridge fdb show dev ${tunnel} | grep 203.0.113.2 | while read -r mac rest; do bridge fdb del $mac dev ${tunnel} self; done`,
      `ip neigh show dev ${tunnel} nud permanent | while read -r ip rest; do ip neigh replace $ip dev ${tunnel} lladdr 02:00:00:00:00:99 nud permanent; done`,
      `ip route del $(ip route show proto 201 dev ${tunnel} | cut -d' ' -f1)`,
    ]) {
      lab.host(1).run(damage);
      const broken = (await found()).filter(({ id }) => id === "overlay-kernel");
      expect(broken, damage).toEqual([expect.objectContaining({ subject: "web" })]);
      expect(broken[0]?.evidence).toMatch(/the engine has h2, and the kernel lacks/);
      lab.startNetd(1);
      await lab.until("netd has mended it", async () => (await found()).length === 0);
      await lab.untilPings(1, "s1", there);
      await lab.killNetd(1);
    }
  });
});
