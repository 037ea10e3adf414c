import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { readAllAddresses } from "#kernel/address.ts";
import { readLink } from "#kernel/link.ts";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { type Cidr, firstIp, formatCidr, parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { addToIp, equalIp, formatIp, type IpAddress, parseIp } from "#net/ip.ts";
import { isAnswered, isSilent } from "#testing/echo.ts";
import { testWith } from "#testing/requires.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { Underlay } from "#testing/underlay.ts";
import { advance, reconcile } from "./dataplane.ts";
import { desiredTunnels, type Tunnel } from "./desired.ts";
import { Keys } from "./keys.ts";
import { formatRecord, type HostRecord, readHost } from "./record.ts";
import { ClusterView } from "./view.ts";

const keys = new Keys("lab");
let underlay: Underlay;
let view: ClusterView;
let revision: number;

function put(key: string, record: object): void {
  revision++;
  view.apply({ revision, changes: [{ kind: "put", entry: { key, value: formatRecord(record), revision } }] });
}
function drop(key: string): void {
  revision++;
  view.apply({ revision, changes: [{ kind: "delete", key, revision }] });
}
function addHost(number: number, addresses: { v4?: string; v6?: string }, mtu = 1500): void {
  const parsed = Object.fromEntries(
    Object.entries(addresses).map(([family, text]) => [family, parseIp(text)]),
  );
  put(keys.host(`h${number}`), {
    v: 1,
    id: `h${number}`,
    name: `h${number}`,
    underlay: parsed,
    mtu,
    state: "active",
  });
}
const block = (number: number, family: 4 | 6): Cidr =>
  parseCidr(family === 4 ? `10.32.${number}.0/26` : `fd32::${number}:0/112`);
/** The address that stands for a container. */
const container = (number: number, family: 4 | 6): string =>
  formatIp(addToIp(firstIp(block(number, family)), 2));

function addBlocks(number: number): void {
  for (const family of [4, 6] as const) {
    const cidr = block(number, family);
    put(keys.block("web", cidr), { v: 1, cidr, host: `h${number}`, nonce: "n" });
    underlay
      .host(number)
      .run(`ip link show br0 >/dev/null 2>&1 || { ip link add br0 type bridge; ip link set br0 up; }
      ip address add ${container(number, family)}/${cidr.prefixLength} dev br0 ${family === 6 ? "nodad" : ""}`);
  }
}

const self = (number: number): HostRecord => {
  const record = view.hosts.get(`h${number}`);
  if (!record) throw new Error(`host ${number} is not known`);
  return readHost("self", formatRecord(record));
};

function pass(number: number) {
  const namespace = NetworkNamespace.open(underlay.host(number).path);
  try {
    const device = (local: IpAddress) =>
      readAllAddresses(namespace).find(({ address }) => equalIp(address.address, local))?.ifindex;
    return reconcile(namespace, desiredTunnels(view, self(number), []), device);
  } finally {
    namespace.close();
  }
}

/** Brings what has changed since `before` to the kernel, and what that was. */
function advanceFrom(number: number, { desired, devices }: ReturnType<typeof stand>) {
  const namespace = NetworkNamespace.open(underlay.host(number).path);
  try {
    return advance(namespace, devices, desired, desiredTunnels(view, self(number), []));
  } finally {
    namespace.close();
  }
}

/** After a whole pass. */
function stand(number: number) {
  const { devices } = pass(number);
  return { desired: desiredTunnels(view, self(number), []), devices };
}

/** From one host's container to another's. */
function expectPing(from: number, to: number, family: 4 | 6): void {
  const path = [underlay.host(from), container(to, family), container(from, family)] as const;
  expect(isAnswered(...path), `${from} to ${to} over IPv${family}`).toBe(true);
}

beforeEach(() => {
  underlay = Underlay.create("overlay", 3);
  view = new ClusterView(keys);
  revision = 0;
  put(keys.cluster, { v: 1, uuid: "u", udpPort: 4789, vniMin: 1, vniMax: 100, pools: [] });
  put(keys.network("web"), {
    v: 1,
    name: "web",
    id: "0123",
    mode: "l3",
    vni: 42,
    subnets: [
      { cidr: parseCidr("10.32.0.0/16"), blockLength: 26 },
      { cidr: parseCidr("fd32::/64"), blockLength: 112 },
    ],
    internal: false,
    state: "active",
  });
  for (const number of [1, 2, 3]) addHost(number, { v4: `203.0.113.${number}` });
});
afterEach(() => underlay.remove());

describe("three hosts with addresses in one network", () => {
  testWith(["vxlan"], "reach each other, and a second pass changes nothing", () => {
    for (const number of [1, 2, 3]) addBlocks(number);
    for (const number of [1, 2, 3]) expect(pass(number).failures).toEqual([]);
    for (const family of [4, 6] as const) {
      expectPing(1, 2, family);
      expectPing(2, 3, family);
      expectPing(3, 1, family);
    }
    for (const number of [1, 2, 3]) expect(pass(number)).toMatchObject({ changes: [], failures: [] });
    const [link] = underlay
      .host(1)
      .json<{ mtu: number; linkinfo: { info_data: object } }>("ip -j -d link show nv16");
    expect(link).toMatchObject({
      mtu: 1450,
      linkinfo: { info_data: { id: 42, port: 4789, learning: false, udp_csum: true } },
    });
  });

  testWith(["vxlan"], "whatever somebody has deleted or changed is there again after a pass", () => {
    for (const number of [1, 2, 3]) addBlocks(number);
    for (const number of [1, 2, 3]) pass(number);
    const damages = [
      "ip link del nv16",
      "ip link set nv16 down",
      "ip link set nv16 mtu 1300",
      "ip link set nv16 address 02:00:00:00:00:77",
      "ip route del 10.32.2.0/26",
      "ip -6 route del fd32::2:0/112",
      "ip neigh flush dev nv16 nud permanent",
      "ip neigh replace 10.32.2.0 lladdr 02:00:00:00:00:99 dev nv16 nud permanent",
      "bridge fdb flush dev nv16 2>/dev/null || bridge fdb show dev nv16 | while read mac rest; do bridge fdb del $mac dev nv16 dst 203.0.113.2 || true; done 2>/dev/null",
      "ip address flush dev nv16",
      "ip link del nv16; ip link add nv16 type vxlan id 9 dstport 4789 local 203.0.113.1 nolearning; ip link set nv16 alias netctl:overlay=0123",
    ];
    for (const damage of damages) {
      underlay.host(1).run(damage);
      const { changes, failures } = pass(1);
      expect(failures, damage).toEqual([]);
      expect(changes, damage).not.toEqual([]);
      for (const family of [4, 6] as const) expectPing(1, 2, family);
      expect(pass(1), damage).toMatchObject({ changes: [], failures: [] });
    }
  });

  testWith(["vxlan"], "routes and entries of others are left alone", () => {
    for (const number of [1, 2, 3]) addBlocks(number);
    pass(1);
    underlay.host(1).run(`ip route add 10.32.77.0/26 via 203.0.113.9 proto bird
      bridge fdb add 02:00:00:00:00:55 dev nv16 dst 203.0.113.9 extern_learn`);
    expect(pass(1)).toMatchObject({ changes: [], failures: [] });
    underlay
      .host(1)
      .run("ip route show 10.32.77.0/26 | grep bird; bridge fdb show dev nv16 | grep 02:00:00:00:00:55");
  });
});

describe("when the cluster changes", () => {
  testWith(["vxlan"], "a host that joins is reached, and one that was removed is not", () => {
    addBlocks(1);
    addBlocks(2);
    pass(1);
    pass(2);
    expect(isSilent(underlay.host(1), container(3, 4), container(1, 4))).toBe(true);
    addBlocks(3);
    for (const number of [1, 2, 3]) expect(pass(number).failures).toEqual([]);
    expectPing(1, 3, 4);
    drop(keys.block("web", block(3, 4)));
    drop(keys.block("web", block(3, 6)));
    expect(pass(1).changes).toContain("remove route to 10.32.3.0/26");
    // To nobody's addresses, and so nowhere: not to the default route.
    expect(() => underlay.host(1).run("ip route get 10.32.3.2")).toThrow(/No route to host/);
    expectPing(1, 2, 4);
  });

  testWith(["vxlan"], "what a host does is brought over without a look as by a whole pass", () => {
    for (const number of [1, 2, 3]) addBlocks(number);
    for (const number of [1, 2, 3]) pass(number);
    const holds = (host: string, cidr: Cidr) =>
      put(keys.block("web", cidr), { v: 1, cidr, host, nonce: "n" });
    const steps: readonly (() => void)[] = [
      () => {
        drop(keys.block("web", block(3, 4)));
        drop(keys.block("web", block(3, 6)));
      },
      () => holds("h3", block(3, 6)),
      () => holds("h3", block(3, 4)),
      () => addHost(2, { v4: "203.0.113.22" }),
      () => drop(keys.host("h2")),
      () => addHost(2, { v4: "203.0.113.2" }),
      () => holds("h3", block(9, 4)),
      // A block goes from one host to another; the lowest of a host has its gateway.
      () => holds("h2", block(3, 4)),
    ];
    for (const step of steps) {
      const before = stand(1);
      step();
      const done = advanceFrom(1, before);
      expect(done?.failures).toEqual([]);
      expect(done?.changes.length).toBeGreaterThan(0);
      expect(pass(1)).toMatchObject({ changes: [], failures: [] });
    }
    // What is more than ways to other hosts is for a whole pass.
    const before = stand(1);
    addHost(2, { v4: "203.0.113.2" }, 1400);
    expect(advanceFrom(1, before)).toBeUndefined();
  });

  testWith(["vxlan"], "another address of a host is taken over", () => {
    addBlocks(1);
    addBlocks(2);
    underlay
      .host(2)
      .run(
        "ip address add 203.0.113.22/24 dev up0; ip address del 203.0.113.2/24 dev up0; ip address add 203.0.113.22/24 dev up0 || true",
      );
    addHost(2, { v4: "203.0.113.22" });
    pass(1);
    pass(2);
    expectPing(1, 2, 4);
    expectPing(1, 2, 6);
  });

  testWith(["vxlan"], "a host that changes its family is reached by the other tunnel", () => {
    const both = (number: number) => ({ v4: `203.0.113.${number}`, v6: `2001:db8:ff::${number}` });
    for (const number of [1, 2, 3]) addHost(number, both(number));
    for (const number of [1, 2, 3]) addBlocks(number);
    for (const number of [1, 2, 3]) expect(pass(number).failures).toEqual([]);
    for (const family of [4, 6] as const) expectPing(1, 2, family);

    addHost(2, { v6: both(2).v6 });
    for (const number of [1, 2, 3]) expect(pass(number).failures).toEqual([]);
    for (const number of [1, 2, 3]) expect(pass(number)).toMatchObject({ changes: [], failures: [] });
    for (const family of [4, 6] as const) {
      expectPing(1, 2, family);
      expectPing(2, 3, family);
      expectPing(3, 1, family);
    }
  });

  testWith(["vxlan"], "a port that another program has is named, and taken once it is free", async () => {
    for (const number of [1, 2]) addBlocks(number);
    const script = "require('node:dgram').createSocket('udp4').bind(4789, () => console.log('bound'))";
    const other = spawn("nsenter", [`--net=${underlay.host(1).path}`, process.execPath, "-e", script]);
    await once(other.stdout, "data");
    // One sentence, and not one for each way that needs the tunnel.
    for (const _ of [1, 2])
      expect(pass(1).failures).toEqual([
        expect.stringMatching(/tunnel nv16.*another program has UDP port 4789, .*address in use/),
      ]);
    other.kill("SIGKILL");
    await once(other, "exit");
    expect(pass(1).failures).toEqual([]);
    expect(pass(2).failures).toEqual([]);
    expectPing(1, 2, 4);
  });

  testWith(["vxlan"], "what leads to a host by a link of its own goes as well", () => {
    for (const number of [1, 2]) addBlocks(number);
    const namespace = NetworkNamespace.open(underlay.host(1).path);
    try {
      const lower = readLink(namespace, parseIfName("up0"))?.ifindex;
      const [tunnel] = desiredTunnels(view, self(1), []).tunnels;
      if (!tunnel || lower === undefined) throw new Error("host 1 has no tunnel");
      // As inside of an encrypted one.
      const peers = tunnel.peers.map((peer) => ({ ...peer, underlay: parseIp("fe80::2") }));
      const made = { ...tunnel, mtu: 1430, local: parseIp("fe80::1"), lower, peers };
      const look = (wanted: Tunnel) =>
        reconcile(namespace, { tunnels: [wanted], subnets: [] }, () => undefined);
      expect(look(made).failures).toEqual([]);
      expect(underlay.host(1).run("bridge fdb show dev nv16")).toContain("dst fe80::2 via up0");
      expect(look({ ...made, peers: [] }).changes.filter((each) => each.includes("forwarding"))).toHaveLength(
        1,
      );
      expect(underlay.host(1).run("bridge fdb show dev nv16")).not.toContain("fe80::2");
      expect(look({ ...made, peers: [] })).toMatchObject({ changes: [], failures: [] });
    } finally {
      namespace.close();
    }
  });

  testWith(["vxlan"], "the MTU is what the narrowest host leaves", () => {
    addBlocks(1);
    addBlocks(2);
    addHost(2, { v4: "203.0.113.2" }, 1400);
    pass(1);
    expect(underlay.host(1).run("cat /sys/class/net/nv16/mtu 2>/dev/null || ip -o link show nv16")).toMatch(
      /1350/,
    );
  });

  testWith(["vxlan"], "an underlay of IPv6 alone carries both families", () => {
    for (const number of [1, 2]) addHost(number, { v6: `2001:db8:ff::${number}` });
    addBlocks(1);
    addBlocks(2);
    for (const number of [1, 2]) expect(pass(number).failures).toEqual([]);
    expectPing(1, 2, 4);
    expectPing(2, 1, 6);
    expect(underlay.host(1).run("ip -d link show nw16")).toContain("2001:db8:ff::1");
  });

  testWith(["vxlan"], "a host without addresses in a network has nothing of it", () => {
    addBlocks(1);
    pass(1);
    expect(pass(2)).toMatchObject({ changes: [], failures: [] });
    drop(keys.block("web", block(1, 4)));
    drop(keys.block("web", block(1, 6)));
    expect(pass(1).changes).toContain("remove tunnel nv16");
    expect(underlay.host(1).run("ip route show proto 201; ip -6 route show proto 201")).toBe("");
  });

  testWith(["vxlan"], "the underlay's device is named when its address is gone", () => {
    addBlocks(1);
    addBlocks(2);
    underlay.host(1).run("ip address flush dev up0");
    expect(pass(1).failures).toEqual(["tunnel nv16: no device has the underlay address 203.0.113.1"]);
    expect(formatCidr(block(1, 4))).toBe("10.32.1.0/26");
  });
});

describe("a network that is one segment", () => {
  const place = (host: number, id: string) => keys.endpointsOn("flat", `h${host}`) + id;
  const says = (host: number, id: string, mac: string, ...ips: readonly string[]) =>
    put(place(host, id), { v: 1, mac, ips: ips.map(parseIp) });
  const a = "02:00:00:00:00:0a";
  const b = "02:00:00:00:00:0b";

  beforeEach(() => {
    const subnets = [
      { cidr: parseCidr("10.33.0.0/16"), blockLength: 26 },
      { cidr: parseCidr("fd33::/64"), blockLength: 112 },
    ];
    const [name, id, mode, vni] = ["flat", "4567", "l2", 43];
    put(keys.network(name), { v: 1, name, id, mode, vni, subnets, internal: false, state: "active" });
    for (const number of [1, 2, 3])
      for (const cidr of [parseCidr(`10.33.${number}.0/26`), parseCidr(`fd33::${number}:0/112`)])
        put(keys.block(name, cidr), { v: 1, cidr, host: `h${number}`, nonce: "n" });
  });

  /** How host 1 reaches an address: MAC address, and the other end of the tunnel. */
  const way = (ip: string): string | undefined => {
    const { bridge, tunnel } = devices();
    const mac = / lladdr (\S+) /.exec(underlay.host(1).run(`ip neigh show ${ip} dev ${bridge}`))?.[1];
    if (mac === undefined) return undefined;
    const entries = underlay.host(1).run(`bridge fdb show dev ${tunnel}`).split("\n");
    const own = entries.filter((entry) => entry.startsWith(mac));
    const destinations = own.flatMap((entry) => / dst (\S+)/.exec(entry)?.[1] ?? []);
    expect(own.filter((entry) => entry.includes(`master ${bridge}`))).toHaveLength(1);
    return `${mac} at ${destinations.join()}`;
  };
  const devices = () => {
    const [tunnel] = desiredTunnels(view, self(1), []).tunnels.filter(({ network }) => network === "flat");
    return { tunnel: tunnel?.name ?? "", bridge: tunnel?.stretch?.bridge ?? "" };
  };
  /** Without a look at the kernel; then a look has to find nothing to do. */
  const step = (change: () => void): number => {
    const before = stand(1);
    change();
    const done = advanceFrom(1, before);
    expect(done?.failures).toEqual([]);
    expect(pass(1)).toMatchObject({ changes: [], failures: [] });
    return done?.changes.length ?? -1;
  };

  testWith(["vxlan"], "follows containers that come, move and go, and costs what changes", () => {
    pass(1);
    // Two forwarding entries, and a neighbour for each address.
    expect(step(() => says(2, "a", a, "10.33.2.5", "fd33::2:5"))).toBe(4);
    expect(step(() => says(3, "b", b, "10.33.3.5"))).toBe(3);
    expect([way("10.33.2.5"), way("fd33::2:5")]).toEqual([`${a} at 203.0.113.2`, `${a} at 203.0.113.2`]);

    // It is on host 3 now, and host 2 has said nothing; then it says goodbye, late.
    expect(step(() => says(3, "a", a, "10.33.2.5", "fd33::2:5"))).toBe(1);
    expect(way("10.33.2.5")).toBe(`${a} at 203.0.113.3`);
    expect(step(() => drop(place(2, "a")))).toBe(0);
    expect(way("fd33::2:5")).toBe(`${a} at 203.0.113.3`);

    // Made anew on host 2 under another MAC address; of two families only one has moved.
    const c = "02:00:00:00:00:0c";
    step(() => says(2, "c", c, "10.33.2.5"));
    expect(way("10.33.2.5")).toBe(`${c} at 203.0.113.2`);
    expect(way("fd33::2:5")).toBe(`${a} at 203.0.113.3`);
    expect(step(() => drop(place(3, "a")))).toBe(3);
    expect([way("10.33.2.5"), way("fd33::2:5")]).toEqual([`${c} at 203.0.113.2`, undefined]);

    // To this host: what led to another goes.
    expect(step(() => says(1, "c", c, "10.33.2.5"))).toBe(3);
    expect(way("10.33.2.5")).toBeUndefined();
    // And back, as the later one has gone.
    expect(step(() => drop(place(1, "c")))).toBe(3);
    expect(way("10.33.2.5")).toBe(`${c} at 203.0.113.2`);

    // A host with all that it has: two of the container, and two and a route of itself for each family.
    expect(way("10.33.3.5")).toBe(`${b} at 203.0.113.3`);
    const gone = step(() => drop(keys.host("h3")));
    expect(gone).toBe(3 + 2 + 4);
    expect(way("10.33.3.5")).toBeUndefined();
    expect(step(() => addHost(3, { v4: "203.0.113.3" }))).toBe(gone);
    step(() => addHost(3, { v4: "203.0.113.33" }));
    expect(way("10.33.3.5")).toBe(`${b} at 203.0.113.33`);
  });

  testWith(["vxlan"], "containers here are told at once under which MAC address another is now", async () => {
    pass(1);
    const addresses = ["10.33.2.5", "fd33::2:5"];
    step(() => says(2, "a", a, ...addresses));
    const inside = TestNamespace.create("overlay-inside");
    try {
      underlay
        .host(1)
        .run(`ip link add c0 up master ${devices().bridge} type veth peer name eth0 netns ${inside.name}
        ip link set ${devices().bridge} up`);
      inside.run(`ip link set eth0 up; ip address add 10.33.1.9/16 dev eth0; ip address add fd33::1:9/64 dev eth0 nodad
        for each in ${addresses.join(" ")}; do ip neigh replace $each lladdr ${a} dev eth0 nud reachable; done`);
      const known = () =>
        addresses.map((ip) => / lladdr (\S+) /.exec(inside.run(`ip neigh show ${ip}`))?.[1]);
      expect(known()).toEqual([a, a]);
      // The link is a fraction of a second younger than its carrier.
      let last = 3;
      await expect
        .poll(
          () => {
            last = last === 3 ? 2 : 3;
            step(() => says(last, "b", `02:00:00:00:01:0${last}`, ...addresses));
            return known();
          },
          { timeout: 20_000, interval: 100 },
        )
        .not.toContain(a);
      await expect.poll(known).toEqual([`02:00:00:00:01:0${last}`, `02:00:00:00:01:0${last}`]);
    } finally {
      inside.remove();
    }
  });
});
