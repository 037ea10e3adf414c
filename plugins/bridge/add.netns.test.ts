import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BridgeRig } from "#testing/bridge-rig.ts";
import { patience } from "#testing/patience.ts";

let rig: BridgeRig;
beforeEach(() => {
  rig = new BridgeRig();
});
afterEach(async () => {
  await rig.close();
});

const dual = {
  type: "host-local",
  ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]],
};

test("two containers reach each other at once, and the host not at all", async () => {
  const one = await rig.attach();
  const two = await rig.attach();
  expect(two.result.ips).toEqual([{ interface: 2, address: "10.1.0.3/24", gateway: "10.1.0.1" }]);
  expect(rig.reaches(one.container, "10.1.0.3")).toBe(true);
  expect(rig.isSilent(one.container, "10.1.0.1")).toBe(true);
  expect(rig.sysctl("net/ipv4/ip_forward")).toBe("0");
});

test("the result is what the kernel has", async () => {
  const { container, result } = await rig.attach({ isGateway: true });
  const [bridge, port, inside] = result.interfaces;
  expect(result.interfaces).toHaveLength(3);
  expect(bridge).toEqual({ name: "br1", mac: rig.link("br1").address, mtu: 1500 });
  expect(port).toEqual({ name: port?.name, mac: rig.link(port?.name ?? "").address, mtu: 1500 });
  expect(port?.name).toMatch(/^veth[0-9a-f]{8}$/);
  expect(inside).toEqual({
    name: "eth0",
    mac: rig.link("eth0", container).address,
    mtu: 1500,
    sandbox: container.path,
  });
  expect(rig.addresses("eth0", container)).toEqual(["10.1.0.2/24"]);
  expect(rig.link(port?.name ?? "")).toMatchObject({ master: "br1", operstate: "UP" });
  expect(rig.link("eth0", container)).toMatchObject({ operstate: "UP" });
});

test("results are given in the version that was asked for", async () => {
  const container = rig.container();
  const { json } = await rig.add(rig.config({ cniVersion: "0.2.0", isDefaultGateway: true }), {
    netns: container.path,
  });
  expect(json).toEqual({
    cniVersion: "0.2.0",
    ip4: { ip: "10.1.0.2/24", gateway: "10.1.0.1", routes: [{ dst: "0.0.0.0/0", gw: "10.1.0.1" }] },
    dns: {},
  });
});

test("the bridge keeps its MAC address while ports come and go", async () => {
  const first = await rig.attach();
  const { address } = rig.link("br1");
  await rig.attach();
  await rig.detach(first);
  expect(rig.link("br1").address).toBe(address);
});

test("an interface of that name in the container is left alone and named", async () => {
  const container = rig.container();
  container.run("ip link add eth0 type veth peer other");
  const before = rig.snapshot();
  const { json } = await rig.add(rig.config(), { netns: container.path });
  expect(json).toMatchObject({ code: 4, msg: 'container already has an interface named "eth0"' });
  expect(rig.snapshot()).toEqual(before);
  expect(rig.links(container)).toEqual(["eth0", "lo", "other"]);
});

test("a link of the bridge's name that is none is left alone and named", async () => {
  rig.namespace.run("ip link add br1 type veth peer other");
  const before = rig.snapshot();
  const { json } = await rig.add(rig.config(), { netns: rig.container().path });
  expect(json).toMatchObject({ code: 7, msg: '"br1" already exists but is not a bridge (it is a veth)' });
  expect(rig.snapshot()).toEqual(before);
});

test("a bridge that somebody else made is adopted as it is", async () => {
  rig.namespace.run("ip link add br1 address 02:00:00:00:00:99 mtu 1400 type bridge");
  await rig.attach({ isGateway: true });
  expect(rig.link("br1")).toMatchObject({ address: "02:00:00:00:00:99", operstate: "UP" });
  expect(rig.addresses("br1")).toEqual(["10.1.0.1/24"]);
});

test("16 ADDs at once on a bridge that is not there yet all succeed", async () => {
  const all = await Promise.all(
    Array.from({ length: 16 }, () => rig.attach({ isDefaultGateway: true, ipMasq: true })),
  );
  expect(new Set(all.map(({ result }) => result.ips[0]?.address)).size).toBe(16);
  expect(rig.reaches(all[7]?.container ?? rig.namespace, "10.1.0.1")).toBe(true);
  expect(rig.addresses("br1")).toEqual(["10.1.0.1/24"]);
  expect(rig.links().filter((name) => name.startsWith("veth"))).toHaveLength(16);
});

test("a port has no IPv6 of its own: neither an address, nor the route that the kernel makes for each", async () => {
  const { result } = await rig.attach();
  const port = result.interfaces[1]?.name ?? "";
  expect(rig.link(port).master).toBe("br1");
  expect(rig.namespace.run(`ip -6 addr show dev ${port}; ip -6 route show table all dev ${port}`)).toBe("");
  // As other links have it, the bridge among them.
  expect(rig.namespace.run("ip -6 route show table all dev br1")).toContain("ff00::/8");
});

test("neighbours learn at once that an address has moved to another container", async () => {
  const fixed = { ipam: { type: "static", addresses: [{ address: "10.1.0.9/24" }] } };
  const asker = await rig.attach();
  const first = await rig.attach(fixed);
  expect(rig.reaches(asker.container, "10.1.0.9")).toBe(true);
  await rig.detach(first);
  const second = await rig.attach(fixed);
  const [entry] = JSON.parse(asker.container.run("ip -j neigh show 10.1.0.9")) as { lladdr: string }[];
  expect(entry?.lladdr).toBe(rig.link("eth0", second.container).address);
  expect(rig.reaches(asker.container, "10.1.0.9")).toBe(true);
});

describe("dual stack", () => {
  test("IPv6 works at once, in the container and towards the gateway", async () => {
    const { container, result } = await rig.attach({ isDefaultGateway: true, ipam: dual });
    expect(result.ips.map(({ address }) => address)).toEqual(["10.1.0.2/24", "fd00:1::2/64"]);
    for (const address of ["fd00:1::1", "10.1.0.1"])
      expect(rig.reaches(container, address), address).toBe(true);
    const other = await rig.attach({ isDefaultGateway: true, ipam: dual });
    expect(rig.reaches(other.container, "fd00:1::2")).toBe(true);
    expect(container.run("ip -6 route show default")).toContain("via fd00:1::1");
    expect(rig.sysctl("net/ipv6/conf/all/forwarding")).toBe("1");
    expect(rig.sysctl("net/ipv6/conf/eth0/accept_dad", container)).toBe("0");
  });

  test("neighbours learn at once that an IPv6 address has moved", async () => {
    const fixed = { ipam: { type: "static", addresses: [{ address: "fd00:1::9/64" }] } };
    const asker = await rig.attach({ ipam: dual });
    const first = await rig.attach(fixed);
    expect(rig.reaches(asker.container, "fd00:1::9")).toBe(true);
    await rig.detach(first);
    const second = await rig.attach(fixed);
    const [entry] = JSON.parse(asker.container.run("ip -j neigh show fd00:1::9")) as { lladdr: string }[];
    expect(entry?.lladdr).toBe(rig.link("eth0", second.container).address);
  });

  test("works where new links have IPv6 switched off, as Docker's and some hosts have it", async () => {
    const container = rig.container();
    for (const namespace of [container, rig.namespace]) {
      namespace.run("for each in default all; do echo 1 > /proc/sys/net/ipv6/conf/$each/disable_ipv6; done");
    }
    const answer = await rig.add(rig.config({ isGateway: true, ipam: dual }), { netns: container.path });
    expect(answer).toMatchObject({ exitCode: 0 });
    expect(rig.reaches(container, "fd00:1::1")).toBe(true);
  });

  test("enabledad leaves the detection on and waits for it", async () => {
    const { container } = await rig.attach({ isGateway: true, enabledad: true, ipam: dual });
    expect(rig.sysctl("net/ipv6/conf/eth0/accept_dad", container)).toBe("1");
    const flags = container.run("ip -6 addr show dev eth0 scope global");
    expect(flags).not.toMatch(/tentative|nodad/);
    expect(rig.reaches(container, "fd00:1::1")).toBe(true);
  });

  test("enabledad finds a duplicate, and takes everything back", async () => {
    const fixed = { type: "static", addresses: [{ address: "fd00:1::9/64", gateway: "fd00:1::1" }] };
    await rig.attach({ isGateway: true, ipam: fixed });
    const before = rig.snapshot();
    const { json } = await rig.add(rig.config({ isGateway: true, enabledad: true, ipam: fixed }), {
      netns: rig.container().path,
    });
    expect(json).toMatchObject({ code: 7, msg: expect.stringContaining("fd00:1::9/64") as string });
    expect(rig.snapshot()).toEqual(before);
  });

  test("a link that listens to router advertisements goes on when the host becomes a router", async () => {
    rig.namespace.run("ip link add up0 type veth peer far0; ip link add deaf0 type veth peer far1");
    rig.namespace.run("echo 0 > /proc/sys/net/ipv6/conf/deaf0/accept_ra");
    await rig.attach({ isGateway: true, ipam: dual });
    expect(rig.sysctl("net/ipv6/conf/up0/accept_ra")).toBe("2");
    expect(rig.sysctl("net/ipv6/conf/deaf0/accept_ra")).toBe("0");
    expect(rig.sysctl("net/ipv6/conf/br1/accept_ra")).toBe("0");
  });
});

describe("ipMasq", () => {
  /** A network beyond the host, whose machine knows no way back to the containers. */
  async function outside() {
    const far = rig.container("outside");
    rig.namespace.run(
      `ip link add up0 type veth peer out0 netns ${far.name}
       ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up`,
    );
    far.run(
      "ip addr add 192.0.2.9/24 dev out0; ip addr add 2001:db8::9/64 dev out0 nodad; ip link set out0 up",
    );
    // Its own links take a second until they can speak IPv6.
    await expect
      .poll(() => rig.reaches(rig.namespace, "2001:db8::9"), { timeout: 10_000 * patience })
      .toBe(true);
    return far;
  }

  test("containers reach the outside under the host's address, in both families", async () => {
    await outside();
    const config = { isDefaultGateway: true, ipMasq: true, ipam: dual };
    const { container } = await rig.attach(config);
    for (const address of ["192.0.2.9", "2001:db8::9"])
      expect(rig.reaches(container, address), address).toBe(true);
  });

  test("without it they do not", async () => {
    await outside();
    const { container } = await rig.attach({ isDefaultGateway: true });
    expect(rig.isSilent(container, "192.0.2.9")).toBe(true);
  });

  test("the first packet from the outside finds a container that has sent none", async () => {
    const far = await outside();
    far.run("ip route add 10.1.0.0/24 via 192.0.2.1; ip route add fd00:1::/64 via 2001:db8::1");
    await rig.attach({ isDefaultGateway: true, ipam: dual });
    expect(rig.reaches(far, "10.1.0.2")).toBe(true);
    expect(rig.reaches(far, "fd00:1::2")).toBe(true);
  });
});
