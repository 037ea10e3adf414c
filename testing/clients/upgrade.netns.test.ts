import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { isAnswered } from "#testing/echo.ts";
import { testWith } from "#testing/requires.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { askOnce, startServer } from "#testing/traffic.ts";
import { ChainRunner, goBin, ourBin, targetOf } from "./chain-runner.ts";

/** Containers that Debian's Go plugins have made, on a host on which the executables are ours by now. */

let host: ChainRunner;
let stops: (() => void)[] = [];

beforeEach(() => {
  host = new ChainRunner("upgrade");
});
afterEach(() => {
  for (const stop of stops) stop();
  stops = [];
  host.remove();
});

const published = {
  portMappings: [
    { hostPort: 8080, containerPort: 7000, protocol: "tcp" },
    { hostPort: 8053, containerPort: 7000, protocol: "udp" },
  ],
};

function ipam(): JsonObject {
  return {
    type: "host-local",
    dataDir: host.path("leases"),
    ranges: [[{ subnet: "10.4.0.0/24" }], [{ subnet: "fd00:4::/64" }]],
    routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
  };
}

function chain(driver: JsonObject, rest: readonly JsonObject[] = []) {
  return host.list({
    cniVersion: "1.0.0",
    name: "pods",
    plugins: [{ ipam: ipam(), ipMasq: true, ...driver }, ...rest],
  });
}

const bridge = { type: "bridge", bridge: "cni0", isGateway: true };
const portmap = { type: "portmap", capabilities: { portMappings: true }, snat: true };
const firewall = { type: "firewall", backend: "iptables" };
const bandwidth = {
  type: "bandwidth",
  ingressRate: 80_000_000,
  ingressBurst: 8_000_000,
  egressRate: 80_000_000,
  egressBurst: 8_000_000,
};
const tuning = { type: "tuning", sysctl: { "net.core.somaxconn": "500" } };

const leases = () =>
  ["leases/pods", "leases/lan"].flatMap((name) =>
    existsSync(host.path(name)) ? readdirSync(host.path(name)) : [],
  );
const veths = () =>
  host.host
    .json<{ ifname: string }>("ip -j link")
    .map(({ ifname }) => ifname)
    .filter((name) => /^(veth|bwp)/.test(name));

/** The host's uplink, which the host has an address on. */
function withUplink(): void {
  host.host.run(`ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
    ip addr add 192.0.2.1/24 dev up0; ip addr add fd00:2::1/64 dev up0 nodad`);
}

const tuned = () => ({
  type: "tuning",
  dataDir: host.path("tuning"),
  mac: "02:00:00:00:00:0a",
  mtu: 1400,
  promisc: true,
  allmulti: true,
  sysctl: { "net.ipv4.conf.IFNAME.arp_filter": "1" },
});

describe.each([
  ["bridge, portmap, tuning", () => chain({ ...bridge, macspoofchk: true }, [portmap, tuning])],
  ["bridge, firewall, bandwidth", () => chain(bridge, [firewall, bandwidth, portmap])],
  [
    "ptp, bandwidth, tuning, firewall, portmap",
    () => chain({ type: "ptp" }, [bandwidth, tuned(), firewall, portmap]),
  ],
])("%s", (_title, list) => {
  test.each(["alive", "gone"])(
    "what the Go plugins made goes with our DEL, the namespace %s",
    async (netns) => {
      const network = list();
      const container = host.container();
      const target = targetOf(container, published);
      await host.add(goBin, network, target);
      const marks = [container.name, "10.4.0.2", "fd00:4::2"];
      expect(host.traces(marks).length).toBeGreaterThan(5);
      expect(host.host.run("iptables -t nat -S")).toContain("CNI-DN-");
      if (netns === "gone") container.remove();
      await host.del(ourBin, network, netns === "gone" ? { ...target, netns: "" } : target);
      expect(host.traces(marks)).toEqual([]);
      expect(host.host.run("iptables -t nat -S; ip6tables -t nat -S")).not.toMatch(
        /CNI-[0-9a-f]{24}|CNI-DN-/,
      );
      expect(host.host.run("nft list ruleset")).not.toContain("cni-br-iface");
      if (netns === "alive") expect(container.run("ip -o link")).not.toContain("eth0");
      // What ends with a namespace ends in the kernel's own time.
      await expect.poll(veths, { timeout: 20_000 }).toEqual([]);
      // As a runtime repeats it, without anything.
      await host.del(ourBin, network, { ...target, netns: "" });
    },
  );

  test("old containers go on beside new ones, and keep their leases", async () => {
    const network = list();
    const old = host.container();
    await host.add(goBin, network, targetOf(old, published));
    const fresh = host.container();
    const result = await host.add(ourBin, network, targetOf(fresh));
    expect(result.ips.map(({ address }) => address.address.value & 0xffn)).toEqual([3n, 3n]);
    expect(isAnswered(fresh, "10.4.0.2")).toBe(true);
    expect(isAnswered(old, "10.4.0.3")).toBe(true);
    // As CRI-O asks for every pod that was there before it started.
    await host.check(ourBin, network, targetOf(old, published));
    stops.push(await startServer(old, "old", [7000]));
    host.host.run(
      "ip link add up0 type dummy 2>/dev/null || ip link add up0 type bridge; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0",
    );
    const question = { protocol: "tcp", to: "192.0.2.1", port: 8080 } as const;
    expect(await askOnce(host.host, question)).toMatch(/^old sees/);
    await host.del(ourBin, network, targetOf(fresh));
    expect(await askOnce(host.host, question)).toMatch(/^old sees/);
    expect(leases()).toEqual(expect.arrayContaining(["10.4.0.2", "fd00:4::2"]));
    expect(leases()).not.toContain("10.4.0.3");
    host.host.run("for each in iptables ip6tables; do $each -t nat -F; $each -F; done");
    await expect(host.check(ourBin, network, targetOf(old, published))).rejects.toThrow(/is missing/);
    await host.del(ourBin, network, targetOf(old));
    expect(leases().filter((name) => /^10\.|^fd/.test(name))).toEqual([]);
  });
});

describe("what the Go plugins made on the host's own links", () => {
  const onWire = (
    rest: readonly JsonObject[] = [],
    driver: JsonObject = { type: "macvlan", mode: "bridge" },
  ) =>
    host.list({
      cniVersion: "1.0.0",
      name: "lan",
      plugins: [{ ipam: ipam(), ...driver, master: "up0" }, ...rest],
    });

  test.each(["alive", "gone"])(
    "macvlan with tuning and sbr goes with our DEL, the namespace %s",
    async (netns) => {
      withUplink();
      const network = onWire([tuned(), { type: "sbr" }]);
      const container = host.container();
      const target = targetOf(container);
      await host.add(goBin, network, target);
      expect(container.run("ip rule")).toContain("from 10.4.0.2");
      expect(readdirSync(host.path("tuning"))).toHaveLength(1);
      if (netns === "gone") container.remove();
      await host.del(ourBin, network, netns === "gone" ? { ...target, netns: "" } : target);
      expect(host.traces([container.name, "10.4.0.2", "fd00:4::2"])).toEqual([]);
      expect(readdirSync(host.path("tuning"))).toEqual([]);
      if (netns === "alive") {
        expect(container.run("ip -o link")).not.toContain("eth0");
        expect(container.run("ip rule; ip -6 rule")).not.toContain("from 10.4.0.2");
      }
    },
  );

  test("a macvlan of theirs and one of ours reach each other, and CHECK by ours finds theirs in order", async () => {
    withUplink();
    const network = onWire();
    const [old, fresh] = [host.container(), host.container()];
    await host.add(goBin, network, targetOf(old));
    await host.add(ourBin, network, targetOf(fresh));
    expect(isAnswered(fresh, "10.4.0.2")).toBe(true);
    await host.check(ourBin, network, targetOf(old));
    await host.del(ourBin, network, targetOf(fresh));
    expect(isAnswered(old, "10.4.0.2")).toBe(true);
    expect(leases()).not.toContain("10.4.0.3");
  });

  describe.each([
    ["ipvlan", "ipvlan", { type: "ipvlan", mode: "l2" }],
    ["vlan", "8021q", { type: "vlan", vlanId: 5 }],
  ] as const)("%s", (_type, feature, driver) => {
    const network = (rest: readonly JsonObject[] = []) => onWire(rest, driver);

    for (const netns of ["alive", "gone"])
      testWith([feature], `with tuning and sbr goes with our DEL, the namespace ${netns}`, async () => {
        withUplink();
        const list = network([{ type: "tuning", dataDir: host.path("tuning"), mtu: 1400 }, { type: "sbr" }]);
        const container = host.container();
        const target = targetOf(container);
        await host.add(goBin, list, target);
        expect(container.run("ip rule")).toContain("from 10.4.0.2");
        if (netns === "gone") container.remove();
        await host.del(ourBin, list, netns === "gone" ? { ...target, netns: "" } : target);
        expect(host.traces([container.name, "10.4.0.2", "fd00:4::2"])).toEqual([]);
        if (netns === "alive") expect(container.run("ip -o link")).not.toContain("eth0");
        await host.del(ourBin, list, { ...target, netns: "" });
      });

    testWith(
      [feature],
      "is in order by CHECK of ours, which names what it has lost, and makes place",
      async () => {
        withUplink();
        const [old, fresh] = [host.container(), host.container()];
        await host.add(goBin, network(), targetOf(old));
        await host.check(ourBin, network(), targetOf(old));
        old.run("ip addr del 10.4.0.2/24 dev eth0");
        await expect(host.check(ourBin, network(), targetOf(old))).rejects.toThrow("10.4.0.2");
        await host.del(ourBin, network(), targetOf(old));
        // A VLAN is there once on a link.
        await host.add(ourBin, network(), targetOf(fresh));
        expect(leases()).toContain("10.4.0.3");
        await host.check(ourBin, network(), targetOf(fresh));
        await host.del(ourBin, network(), targetOf(fresh));
        expect(leases().filter((name) => /^10\.|^fd/.test(name))).toEqual([]);
      },
    );
  });

  testWith(["ipvlan"], "an ipvlan of theirs and one of ours reach each other", async () => {
    withUplink();
    const network = onWire([], { type: "ipvlan", mode: "l2" });
    const [old, fresh] = [host.container(), host.container()];
    await host.add(goBin, network, targetOf(old));
    await host.add(ourBin, network, targetOf(fresh));
    expect(isAnswered(fresh, "10.4.0.2")).toBe(true);
    await host.del(ourBin, network, targetOf(fresh));
    expect(leases()).not.toContain("10.4.0.3");
  });

  describe("a VRF", () => {
    /** Without a default route, which Debian's plugin loses: both CHECKs of macvlan say so. */
    const network = () =>
      onWire([{ type: "vrf", vrfname: "blue" }], {
        type: "macvlan",
        mode: "bridge",
        ipam: { ...ipam(), routes: [] },
      });
    const vrfs = (container: TestNamespace) => container.run("ip -o link show type vrf");

    testWith(["vrf"], "is in order by CHECK of ours, and goes with its last interface", async () => {
      withUplink();
      const container = host.container();
      const [first, second] = [targetOf(container), targetOf(container, {}, { ifName: "net1" })];
      await host.add(goBin, network(), first);
      await host.check(ourBin, network(), first);
      await host.add(ourBin, network(), second);
      await host.check(ourBin, network(), second);
      expect(container.run("ip -o link show master blue")).toMatch(/eth0@.*\n.*net1@/);
      // Leaving takes the address of IPv6 along, of which macvlan would speak first.
      container.run("ip link set eth0 nomaster; ip addr add fd00:4::2/64 dev eth0 nodad");
      await expect(host.check(ourBin, network(), first)).rejects.toThrow(/eth0.*blue/);
      container.run("ip link set eth0 master blue");
      await host.del(ourBin, network(), second);
      expect(vrfs(container)).toContain("blue");
      await host.del(ourBin, network(), first);
      expect(vrfs(container)).toBe("");
      expect(host.traces([container.name, "10.4.0.2", "fd00:4::2"])).toEqual([]);
    });

    testWith(["vrf"], "goes with our DEL where its namespace has gone", async () => {
      withUplink();
      const container = host.container();
      await host.add(goBin, network(), targetOf(container));
      container.remove();
      await host.del(ourBin, network(), { ...targetOf(container), netns: "" });
      expect(host.traces([container.name, "10.4.0.2", "fd00:4::2"])).toEqual([]);
    });
  });

  test("a device that host-device lent comes home under its name", async () => {
    withUplink();
    const network = host.list({
      cniVersion: "1.0.0",
      name: "nic",
      plugins: [{ type: "host-device", device: "up1", ipam: ipam() }],
    });
    const container = host.container();
    await host.add(goBin, network, targetOf(container));
    expect(host.host.run("ip -o link")).not.toContain("up1:");
    await host.del(ourBin, network, targetOf(container));
    expect(host.host.run("ip -o link")).toContain("up1@up0:");
    expect(container.run("ip -o link")).not.toContain("eth0");
    expect(host.traces([container.name, "10.4.0.2"])).toEqual([]);
  });
});

test("netctl install puts ours over theirs under a container that runs, and uninstall puts theirs back", async () => {
  const [directory, names] = [
    mkdtempSync(join(tmpdir(), "netctl-upgrade-")),
    ["bridge", "host-local", "portmap"],
  ];
  const [bin, lib] = [join(directory, "bin"), join(directory, "lib")];
  try {
    mkdirSync(bin);
    for (const name of names) copyFileSync(join(goBin, name), join(bin, name));
    const netctl = (words: string) =>
      host.host.run(
        `NETCTL_STATE_DIR=${host.path("state")} NETCTL_RUN_DIR=${host.path("run")} NETCTL_CONF_DIR=${host.path("none")} ${join(ourBin, "netctl")} ${words}`,
      );
    const network = chain(bridge, [portmap]);
    const [old, fresh] = [host.container(), host.container()];
    await host.add(bin, network, targetOf(old, published));
    netctl(`install --bin-dir ${bin} --lib-dir ${lib}`);
    await host.add(bin, network, targetOf(fresh));
    expect(isAnswered(fresh, "10.4.0.2")).toBe(true);
    expect(netctl(`inspect ${fresh.name} --json`)).toContain("10.4.0.3/24");
    for (const each of [old, fresh]) await host.del(bin, network, targetOf(each, published));
    expect(host.traces([old.name, fresh.name, "10.4.0.2", "10.4.0.3"])).toEqual([]);
    netctl(`uninstall --bin-dir ${bin}`);
    expect(readdirSync(bin).sort()).toEqual(names);
    const next = host.container();
    await host.add(bin, network, targetOf(next));
    expect(host.host.run("iptables -t nat -S POSTROUTING")).toContain(next.name);
    await host.del(bin, network, targetOf(next));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("our containers go with the Go plugins' DEL, where nothing is masqueraded, and GC finds the rest", async () => {
  // With ipMasq theirs insists on a chain of iptables that ours never made.
  const network = chain({ ...bridge, ipMasq: false });
  const container = host.container();
  const target = targetOf(container);
  await host.add(ourBin, network, target);
  await host.del(goBin, network, target);
  expect(container.run("ip -o link")).not.toContain("eth0");
  expect(leases().filter((name) => /^10\.|^fd/.test(name))).toEqual([]);
  await host.gc(ourBin, { ...network, cniVersion: "1.1.0" }, []);
  expect(host.traces([container.name, "10.4.0.2"])).toEqual([]);
});

test("what newer Go plugins have made in nftables goes with our DEL, and other containers' rules stay", async () => {
  const network = chain(bridge, [portmap]);
  const container = host.container();
  const target = targetOf(container, published);
  await host.add(goBin, network, target);
  const hash = (text: string) => host.host.run(`printf %s '${text}' | sha512sum`).slice(0, 16);
  const mark = (id: string) => `${hash("pods")}-${hash(`eth0:${id}`)}, net: pods, if: eth0, id: ${id}`;
  // The shape of containernetworking/plugins 1.6 and newer: pkg/ip/ipmasq_nftables_linux.go, portmap_nftables.go.
  host.host.run(`nft -f - <<'EOF'
table inet cni_plugins_masquerade {
  chain masq_checks {
    ip saddr 10.4.0.2 ip daddr != 10.4.0.0/24 masquerade comment "${mark(container.name)}"
    ip saddr 10.4.0.9 ip daddr != 10.4.0.0/24 masquerade comment "${mark("other")}"
  }
  chain postrouting {
    type nat hook postrouting priority 100;
    ip daddr 224.0.0.0/4 return
    goto masq_checks
  }
}
table ip cni_hostport {
  chain hostports {
    tcp dport 8080 dnat to 10.4.0.2:7000 comment "${container.name}"
    tcp dport 8081 dnat to 10.4.0.9:7000 comment "other"
  }
  chain masquerading {
    type nat hook postrouting priority 100;
    ip saddr 10.4.0.2 ip daddr 10.4.0.2 masquerade comment "${container.name}"
  }
}
EOF`);
  await host.del(ourBin, network, target);
  const left = host.host.run("nft list ruleset");
  expect(left).not.toContain("10.4.0.2");
  expect(left).toMatch(/10\.4\.0\.9[^]*masquerade comment/);
  expect(left).toContain('dnat to 10.4.0.9:7000 comment "other"');
});
