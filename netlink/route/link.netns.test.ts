import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { readWithPackage } from "#testing/netlink-package.ts";
import { testWith } from "#testing/requires.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { IpvlanMode } from "./kind/ipvlan.ts";
import { MacvlanMode } from "./kind/macvlan.ts";
import { decodeLink, deleteLink, firstLink, getLink, getLinks, newLink, setLink, vethPeer } from "./link.ts";
import { decodeNamespaceId, getNamespaceId } from "./namespace-id.ts";

interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly address: string;
  readonly master?: string;
  readonly group: string;
  readonly operstate: string;
  readonly txqlen?: number;
  readonly promiscuity: number;
  readonly ifalias?: string;
  readonly altnames?: readonly string[];
  readonly link_netnsid?: number;
  readonly linkinfo?: {
    readonly info_kind: string;
    readonly info_data?: Record<string, unknown>;
    readonly info_slave_data?: Record<string, unknown>;
  };
}

let host: TestNamespace;
let container: TestNamespace;
let route: RouteSocket;
let inside: RouteSocket;

beforeEach(() => {
  host = TestNamespace.create("host");
  container = TestNamespace.create("container");
  route = new RouteSocket(host);
  inside = new RouteSocket(container);
});

afterEach(() => {
  route.close();
  inside.close();
  host.remove();
  container.remove();
});

function ipLink(namespace: TestNamespace, name: string): IpLink {
  const [link] = namespace.json<IpLink>(`ip -j -d link show dev ${name}`);
  if (!link) throw new Error(`ip shows no ${name}`);
  return link;
}

describe("newLink()", () => {
  test("makes a veth whose peer is born in the container's namespace under its final name", () => {
    const bridge = firstLink(
      route.socket.transact([newLink({ name: "br0", kind: "bridge", up: true }), getLink("br0")])[1] ?? [],
    );
    const peer = vethPeer({
      name: "eth0",
      namespaceFd: inside.namespaceFd,
      mac: parseMac("02:00:00:00:00:02"),
      mtu: 1400,
    });
    route.send(
      newLink({
        name: "veth0",
        kind: "veth",
        up: true,
        mtu: 1400,
        master: bridge?.ifindex,
        mac: parseMac("02:00:00:00:00:01"),
        veth: { peer },
      }),
    );

    const near = ipLink(host, "veth0");
    expect(near).toMatchObject({
      mtu: 1400,
      address: "02:00:00:00:00:01",
      master: "br0",
      linkinfo: { info_kind: "veth", info_slave_kind: "bridge" },
    });
    expect(near.flags).toContain("UP");
    const far = ipLink(container, "eth0");
    expect(far).toMatchObject({ mtu: 1400, address: "02:00:00:00:00:02" });
    expect(far.flags).not.toContain("UP");
    expect(host.json<IpLink>("ip -j link").map(({ ifname }) => ifname)).toEqual(["lo", "br0", "veth0"]);
  });

  test("reports the peer's ifindex and namespace id", () => {
    const peer = vethPeer({ name: "eth0", namespaceFd: inside.namespaceFd });
    route.send(newLink({ name: "veth0", kind: "veth", veth: { peer } }));
    const near = firstLink(route.send(getLink("veth0")));
    const far = firstLink(inside.send(getLink("eth0")));
    expect(near?.parent).toBe(far?.ifindex);
    expect(near?.parentNamespaceId).toBe(ipLink(host, "veth0").link_netnsid);
    const [answer] = route.send(getNamespaceId(inside.namespaceFd));
    expect(answer && decodeNamespaceId(answer)).toBe(near?.parentNamespaceId);
  });

  test("refuses a name that is taken, in the kernel's own words", () => {
    const create = newLink({ name: "br0", kind: "bridge" });
    route.send(create);
    expect(() => route.send(create)).toThrow(
      expect.objectContaining({
        errno: Errno.EEXIST,
        code: "EEXIST",
        message: expect.stringMatching(/^Cannot create bridge link "br0": .*\(EEXIST\)$/),
      }),
    );
  });

  test("passes on the kernel's explanation and the place of the offending attribute", () => {
    const tooBig = newLink({ name: "vx0", kind: "vxlan", vxlan: { id: 1 << 24, port: 4789 } });
    expect(() => route.send(tooBig)).toThrow(
      expect.objectContaining({
        errno: Errno.ERANGE,
        kernelMessage: "VXLAN ID must be lower than 16777216",
        offset: expect.any(Number),
      }),
    );
  });

  test("goes on with the requests behind a refused one, and says which were done", () => {
    const requests = [
      newLink({ name: "br0", kind: "bridge" }),
      newLink({ name: "br0", kind: "bridge" }),
      setLink("br0", { up: true }),
    ];
    expect(() => route.socket.transact(requests)).toThrow(
      expect.objectContaining({ index: 1, succeeded: [0, 2] }),
    );
    expect(ipLink(host, "br0").flags).toContain("UP");
  });

  test("bridge: sets what iproute2 reads", () => {
    const mac = parseMac("02:00:00:00:00:09");
    route.send(
      newLink({
        name: "br0",
        kind: "bridge",
        mac,
        bridge: {
          stpState: 1,
          ageingTime: 12_300,
          priority: 4096,
          multicastSnooping: false,
          forwardDelay: 400,
        },
      }),
    );
    expect(ipLink(host, "br0")).toMatchObject({
      address: mac,
      linkinfo: {
        info_kind: "bridge",
        info_data: {
          stp_state: 1,
          ageing_time: 12_300,
          priority: 4096,
          mcast_snooping: 0,
          forward_delay: 400,
        },
      },
    });
    expect(firstLink(route.send(getLink("br0")))).toMatchObject({
      kind: "bridge",
      mac,
      bridge: {
        stpState: 1,
        ageingTime: 12_300,
        priority: 4096,
        multicastSnooping: false,
        forwardDelay: 400,
      },
    });
  });

  testWith(["bridge-vlan-filtering"], "bridge: filters VLANs without a default one", () => {
    route.send(newLink({ name: "br0", kind: "bridge", bridge: { vlanFiltering: true, vlanDefaultPvid: 0 } }));
    expect(ipLink(host, "br0").linkinfo?.info_data).toMatchObject({
      vlan_filtering: 1,
      vlan_default_pvid: 0,
    });
  });

  testWith(["vxlan"], "vxlan: sets what iproute2 reads, and reads it back", () => {
    const vxlan = {
      id: 42,
      local: parseIp("192.0.2.1"),
      learning: false,
      port: 4789,
      ttl: 64,
      ageing: 120,
      udpChecksum: true,
      portRange: { low: 40_000, high: 50_000 },
    };
    route.send(newLink({ name: "vx0", kind: "vxlan", mtu: 1450, vxlan }));
    expect(ipLink(host, "vx0").linkinfo).toMatchObject({
      info_kind: "vxlan",
      info_data: {
        id: 42,
        local: "192.0.2.1",
        learning: false,
        port: 4789,
        ttl: 64,
        ageing: 120,
        udp_csum: true,
        port_range: { low: 40_000, high: 50_000 },
      },
    });
    expect(firstLink(route.send(getLink("vx0")))).toMatchObject({ kind: "vxlan", mtu: 1450, vxlan });
  });

  testWith(["vxlan"], "vxlan: over IPv6", () => {
    route.send(
      newLink({ name: "vx0", kind: "vxlan", vxlan: { id: 7, local6: parseIp("2001:db8::1"), port: 4789 } }),
    );
    expect(ipLink(host, "vx0").linkinfo?.info_data).toMatchObject({ id: 7, local6: "2001:db8::1" });
  });

  testWith(["macvlan"], "macvlan: on a parent of the host, born in the container", () => {
    route.send(newLink({ name: "up0", kind: "veth", veth: { peer: vethPeer({ name: "up1" }) } }));
    const parent = route.ifindex(host, "up0");
    const macvlan = { mode: MacvlanMode.bridge };
    route.send(newLink({ name: "mac0", kind: "macvlan", parent, namespaceFd: inside.namespaceFd, macvlan }));
    expect(ipLink(container, "mac0").linkinfo).toMatchObject({
      info_kind: "macvlan",
      info_data: { mode: "bridge" },
    });
    expect(firstLink(inside.send(getLink("mac0")))).toMatchObject({ kind: "macvlan", parent, macvlan });
  });

  testWith(["ipvlan"], "ipvlan: takes its mode", () => {
    route.send(newLink({ name: "up0", kind: "veth", veth: { peer: vethPeer({ name: "up1" }) } }));
    const parent = route.ifindex(host, "up0");
    route.send(newLink({ name: "ipv0", kind: "ipvlan", parent, ipvlan: { mode: IpvlanMode.l3 } }));
    expect(ipLink(host, "ipv0").linkinfo).toMatchObject({ info_kind: "ipvlan", info_data: { mode: "l3" } });
  });

  testWith(["8021q"], "vlan: takes its id", () => {
    route.send(newLink({ name: "up0", kind: "veth", veth: { peer: vethPeer({ name: "up1" }) } }));
    const parent = route.ifindex(host, "up0");
    route.send(newLink({ name: "up0.5", kind: "vlan", parent, vlan: { id: 5 } }));
    expect(ipLink(host, "up0.5").linkinfo).toMatchObject({ info_kind: "vlan", info_data: { id: 5 } });
    expect(firstLink(route.send(getLink("up0.5")))).toMatchObject({ vlan: { id: 5, protocol: 0x8100 } });
  });

  testWith(["vrf"], "vrf: takes its table", () => {
    route.send(newLink({ name: "vrf0", kind: "vrf", vrf: { table: 100 } }));
    expect(ipLink(host, "vrf0").linkinfo).toMatchObject({ info_kind: "vrf", info_data: { table: 100 } });
  });

  testWith(["dummy"], "dummy: needs nothing", () => {
    route.send(newLink({ name: "dummy0", kind: "dummy", up: true }));
    expect(ipLink(host, "dummy0").linkinfo).toMatchObject({ info_kind: "dummy" });
  });

  testWith(["ifb"], "ifb: needs nothing", () => {
    route.send(newLink({ name: "ifb0", kind: "ifb", up: true, txQueues: 2, rxQueues: 2 }));
    expect(ipLink(host, "ifb0")).toMatchObject({ linkinfo: { info_kind: "ifb" }, num_tx_queues: 2 });
  });
});

describe("setLink()", () => {
  test("changes what iproute2 reads, and reads it back", () => {
    host.run("ip link add br0 type bridge; ip link add a0 type veth peer b0");
    const changes = {
      mtu: 1300,
      mac: parseMac("02:00:00:00:00:0a"),
      group: 17,
      alias: "a container",
      txQueueLength: 55,
    };
    route.send(
      setLink("a0", { ...changes, up: true, promiscuous: true, master: route.ifindex(host, "br0") }),
    );
    const seen = ipLink(host, "a0");
    expect(seen).toMatchObject({
      mtu: 1300,
      address: changes.mac,
      group: "17",
      ifalias: changes.alias,
      txqlen: 55,
      master: "br0",
    });
    expect(seen.flags).toEqual(expect.arrayContaining(["UP", "PROMISC"]));
    const read = firstLink(route.send(getLink("a0")));
    expect(read).toMatchObject({
      ...changes,
      up: true,
      ifindex: seen.ifindex,
      promiscuity: seen.promiscuity,
    });

    route.send(setLink("a0", { up: false, promiscuous: false, master: 0, alias: "" }));
    const after = ipLink(host, "a0");
    expect(after.flags).not.toEqual(expect.arrayContaining(["UP"]));
    expect(after.flags).not.toEqual(expect.arrayContaining(["PROMISC"]));
    expect(after.master).toBeUndefined();
    expect(after.ifalias).toBeUndefined();
  });

  test("renames, and moves into another namespace", () => {
    host.run("ip link add a0 type veth peer b0");
    const ifindex = route.ifindex(host, "b0");
    route.send(setLink(ifindex, { name: "eth7", namespaceFd: inside.namespaceFd }));
    expect(ipLink(container, "eth7").linkinfo?.info_kind).toBe("veth");
    expect(host.json<IpLink>("ip -j link").map(({ ifname }) => ifname)).toEqual(["lo", "a0"]);
  });

  test("finds a link by an alternative name that is longer than a name may be", () => {
    host.run(
      "ip link add a0 type veth peer b0; ip link property add dev a0 altname a-very-long-alternative-name",
    );
    route.send(setLink("a-very-long-alternative-name", { mtu: 1234 }));
    expect(firstLink(route.send(getLink("a0")))).toMatchObject({
      mtu: 1234,
      altNames: ["a-very-long-alternative-name"],
    });
  });

  test("sets what a bridge keeps for its port", () => {
    host.run("ip link add br0 type bridge; ip link add a0 type veth peer b0; ip link set a0 master br0");
    const bridgePort = { hairpin: true, isolated: true, learning: false, unicastFlood: false, priority: 3 };
    route.send(setLink("a0", { bridgePort }));
    expect(ipLink(host, "a0").linkinfo?.info_slave_data).toMatchObject({
      hairpin: true,
      isolated: true,
      learning: false,
      flood: false,
      priority: 3,
    });
    expect(firstLink(route.send(getLink("a0")))).toMatchObject({ portKind: "bridge", bridgePort });
  });

  test("reports ENODEV for a link that is not there, and changes nothing", () => {
    expect(() => route.send(setLink("nope", { up: true }))).toThrow(
      expect.objectContaining({ errno: Errno.ENODEV }),
    );
    expect(host.json<IpLink>("ip -j link")).toHaveLength(1);
  });
});

describe("getLinks()", () => {
  test("reads what iproute2 and the npm package `netlink` read", () => {
    host.run(`ip link add br0 type bridge; ip link add a0 type veth peer b0; ip link set a0 master br0 up
      ip tuntap add mode tap tap0; ip link set b0 up; ip link set br0 up mtu 1442
      until ip link show br0 | grep -q "state UP" && ip link show b0 | grep -q "state UP"; do sleep 0.02; done`);
    const ours = route.all(getLinks(), decodeLink);
    const ip = host.json<IpLink>("ip -j -d link");
    expect(
      ours.map((link) => ({
        ifindex: link.ifindex,
        ifname: link.name,
        mtu: link.mtu,
        address: link.mac,
        operstate: link.operState.toUpperCase(),
        promiscuity: link.promiscuity,
        kind: link.kind,
        master: ours.find(({ ifindex }) => ifindex === link.master)?.name,
        up: link.up,
      })),
    ).toEqual(
      ip.map((link) => ({
        ifindex: link.ifindex,
        ifname: link.ifname,
        mtu: link.mtu,
        address: link.address,
        operstate: link.operstate,
        promiscuity: link.promiscuity,
        kind: link.linkinfo?.info_kind,
        master: link.master,
        up: link.flags.includes("UP"),
      })),
    );
    const others = readWithPackage(host, "getLinks");
    expect(
      others.map(({ data, attrs }) => [data["index"], attrs["ifname"], attrs["mtu"], attrs["group"]]),
    ).toEqual(ours.map((link) => [link.ifindex, link.name, link.mtu, link.group]));
    expect(others.map(({ attrs }) => attrs["address"])).toEqual(
      ours.map((link) => link.mac?.replaceAll(":", "")),
    );
    expect(ours.find(({ name }) => name === "tap0")?.tun).toMatchObject({ type: 2, persistent: true });
  });

  test("counts packets as iproute2 does", () => {
    host.run("ping -c 3 -i 0.01 -q 127.0.0.1");
    const [seen] = host.json<{ stats64: { rx: { bytes: number; packets: number } } }>(
      "ip -j -s link show dev lo",
    );
    const statistics = firstLink(route.send(getLink("lo")))?.statistics;
    expect(statistics).toMatchObject({
      rxBytes: seen?.stats64.rx.bytes,
      rxPackets: seen?.stats64.rx.packets,
    });
    expect(statistics?.rxPackets).toBeGreaterThanOrEqual(6);
  });

  test("leaves it to the kernel to find a bridge's ports, or a kind", () => {
    host.run(`ip link add br0 type bridge; ip link add a0 type veth peer b0; ip link add c0 type veth peer d0
      ip link set a0 master br0; ip link set c0 master br0`);
    const names = (filter: Parameters<typeof getLinks>[0]) =>
      route.all(getLinks(filter), decodeLink).map((l) => l.name);
    expect(names({ master: route.ifindex(host, "br0") })).toEqual(["a0", "c0"]);
    expect(names({ kind: "bridge" })).toEqual(["br0"]);
  });
});

test("deleteLink() takes a veth and its peer away, and reports ENODEV where there is none", () => {
  const peer = vethPeer({ name: "eth0", namespaceFd: inside.namespaceFd });
  route.send(newLink({ name: "veth0", kind: "veth", veth: { peer } }));
  route.send(deleteLink("veth0"));
  expect(container.json<IpLink>("ip -j link").map(({ ifname }) => ifname)).toEqual(["lo"]);
  expect(() => route.send(deleteLink("veth0"))).toThrow(expect.objectContaining({ errno: Errno.ENODEV }));
});
