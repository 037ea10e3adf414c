import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { LanRig } from "#testing/lan-rig.ts";
import { patience } from "#testing/patience.ts";
import { macvlan } from "./main.ts";

let rig: LanRig;
beforeEach(() => {
  rig = new LanRig(macvlan);
});
afterEach(async () => {
  await rig.close();
});

const dual = {
  type: "host-local",
  ranges: [
    [{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.10" }],
    [{ subnet: "fd00:1::/64", rangeStart: "fd00:1::10" }],
  ],
};
const ipam = { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.10" }]] };

const dataOf = (name: string, container = rig.namespace) =>
  rig.link(name, container).linkinfo?.info_data ?? {};

test("the container is on the master's wire, with the master's MTU and a MAC address of its own", async () => {
  rig.namespace.run("ip link set up0 mtu 1400");
  const { container, result } = await rig.attach({ master: "up0", ipam });
  const inside = rig.link("eth0", container);
  expect(result.interfaces).toEqual([
    { name: "eth0", mac: inside.address, mtu: 1400, sandbox: container.path },
  ]);
  expect(result.ips).toEqual([{ interface: 0, address: "10.1.0.10/24", gateway: "10.1.0.1" }]);
  expect(inside.linkinfo?.info_kind).toBe("macvlan");
  expect(dataOf("eth0", container)).toMatchObject({ mode: "bridge" });
  expect(rig.addresses("eth0", container)).toEqual(["10.1.0.10/24"]);
  expect(rig.reaches(container, "10.1.0.1")).toBe(true);
});

test("both families work at once, and routes lead through their gateway", async () => {
  const { container } = await rig.attach({
    master: "up0",
    ipam: { ...dual, routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }] },
  });
  expect(rig.reaches(container, "fd00:1::1")).toBe(true);
  expect(container.run("ip route show default")).toContain("via 10.1.0.1");
  expect(container.run("ip -6 route show default")).toContain("via fd00:1::1");
});

test("an IPv6 address that somebody on the wire has is refused, and everything taken back", async () => {
  rig.lan.run("ip addr add fd00:1::10/64 dev lan0 nodad");
  const before = rig.snapshot();
  const container = rig.container();
  const { json } = await rig.add(rig.config({ master: "up0", ipam: dual }), { netns: container.path });
  expect(json).toMatchObject({ code: 7, msg: expect.stringContaining("fd00:1::10/64: duplicate address") });
  expect(rig.links(container)).toEqual(["lo"]);
  expect(rig.snapshot()).toEqual(before);
});

test("routes have the table and metric that the IPAM plugin gives them, and several ways to one destination stay", async () => {
  const { container } = await rig.attach({
    master: "up0",
    ipam: {
      ...ipam,
      routes: [
        { dst: "192.0.2.0/24", gw: "10.1.0.1", priority: 77 },
        { dst: "198.51.100.0/24", gw: "10.1.0.1", table: 100 },
        { dst: "203.0.113.0/24", scope: 253 },
        { dst: "172.16.0.0/16", gw: "10.1.0.1", mtu: 1300, advmss: 1200 },
        { dst: "172.17.0.0/16", gw: "10.1.0.1" },
        { dst: "172.17.0.0/16", gw: "10.1.0.2" },
      ],
    },
  });
  const main = container.run("ip route");
  expect(main).toMatch(/192\.0\.2\.0\/24 via 10\.1\.0\.1 dev eth0 metric 77/);
  expect(main).toMatch(/203\.0\.113\.0\/24 dev eth0 scope link/);
  expect(main).toMatch(/172\.16\.0\.0\/16 via 10\.1\.0\.1 dev eth0 mtu 1300 advmss 1200/);
  expect(main).toMatch(/172\.17\.0\.0\/16 via 10\.1\.0\.1 dev eth0/);
  expect(main).toMatch(/172\.17\.0\.0\/16 via 10\.1\.0\.2 dev eth0/);
  expect(main).not.toContain("198.51.100");
  expect(container.run("ip route show table 100")).toMatch(/198\.51\.100\.0\/24 via 10\.1\.0\.1 dev eth0/);
});

test("addresses of IPv6 outlive the interface's going down, as those of IPv4 do", async () => {
  const { container } = await rig.attach({ master: "up0", ipam: dual });
  const before = container.run("ip -o addr show dev eth0 scope global | sort");
  expect(before).toContain("fd00:1::10/64");
  container.run("ip link set eth0 down; ip link set eth0 up");
  expect(
    container.run("ip -o addr show dev eth0 scope global | sed s/tentative// | sort").replace(/ +/g, " "),
  ).toBe(before.replace(/ +/g, " "));
});

test("the queue for broadcasts is as long as it is told to be", async () => {
  const { container } = await rig.attach({ master: "up0", ipam, bcqueuelen: 5000 });
  expect(container.run("ip -d link show dev eth0")).toMatch(/bcqueuelen 5000/);
});

describe("the master", () => {
  test("is the default route's device where none is named", async () => {
    const { container } = await rig.attach({ ipam });
    expect(rig.reaches(container, "10.1.0.1")).toBe(true);
  });

  test("is found beside more particular routes to everything", async () => {
    rig.namespace.run(
      "ip link add other type dummy 2>/dev/null || ip link add other type ifb; ip link set other up",
    );
    rig.namespace.run("ip route add 0.0.0.0/1 dev other; ip route add 128.0.0.0/1 dev other");
    const { container } = await rig.attach({ ipam });
    expect(rig.reaches(container, "10.1.0.1")).toBe(true);
  });

  test("has to be there", async () => {
    const container = rig.container();
    const refused = async (config: object) =>
      (await rig.add(rig.config({ ipam, ...config }), { netns: container.path })).json;
    expect(await refused({ master: "up9" })).toMatchObject({
      code: 7,
      msg: 'failed to lookup master "up9": Link not found',
    });
    expect(await refused({ master: "lo" })).toMatchObject({
      code: 7,
      msg: expect.stringContaining("loopback"),
    });
    expect(await refused({ master: "up0", linkInContainer: true })).toMatchObject({
      code: 7,
      msg: 'failed to lookup master "up0" in the container: Link not found',
    });
    rig.namespace.run("ip route del default");
    expect(await refused({})).toMatchObject({ code: 7, msg: "no default route interface found" });
  });

  test("has to be up, and is left alone", async () => {
    rig.namespace.run("ip link set up0 down");
    const container = rig.container();
    const { json } = await rig.add(rig.config({ ipam, master: "up0" }), { netns: container.path });
    expect(json).toMatchObject({ code: 11, msg: 'Cannot use master "up0": it is down' });
    expect(rig.files()).toEqual([]);
  });

  test("may be in the container", async () => {
    const container = rig.container();
    container.run(`ip link add m0 type veth peer name lan1 netns ${rig.lan.name}; ip link set m0 up`);
    rig.lan.run("ip addr add 10.2.0.1/24 dev lan1; ip link set lan1 up");
    const config = rig.config({
      master: "m0",
      linkInContainer: true,
      ipam: { type: "static", addresses: [{ address: "10.2.0.9/24" }] },
    });
    const { json } = await rig.add(config, { netns: container.path });
    expect(json).not.toHaveProperty("code");
    expect(rig.reaches(container, "10.2.0.1")).toBe(true);
    await rig.detach({ containerId: "c1", config }, { netns: container.path });
    expect(rig.links(container)).toEqual(["lo", "m0"]);
  });
});

describe("modes", () => {
  test.each(["private", "vepa", "passthru"])("%s is what the kernel gets", async (mode) => {
    const { container } = await rig.attach({ master: "up0", mode, ipam });
    expect(dataOf("eth0", container)).toMatchObject({ mode });
  });

  test("bridge lets containers talk to each other, also of several networks on one master; private does not", async () => {
    const one = await rig.attach({ master: "up0", ipam });
    const two = await rig.attach({
      master: "up0",
      name: "net2",
      ipam: { ...ipam, ranges: [[{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.50" }]] },
    });
    expect(rig.reaches(one.container, "10.1.0.50")).toBe(true);
    await rig.attach({
      master: "up0",
      mode: "private",
      name: "net3",
      ipam: { type: "static", addresses: [{ address: "10.1.0.60/24" }] },
    });
    expect(rig.isSilent(two.container, "10.1.0.60")).toBe(true);
  });

  test("passthru has its master for itself, and says so", async () => {
    await rig.attach({ master: "up0", ipam });
    const before = rig.snapshot();
    const { json } = await rig.add(rig.config({ master: "up0", mode: "passthru", name: "net2", ipam }), {
      netns: rig.container().path,
    });
    expect(json).toMatchObject({ code: 7, msg: expect.stringContaining("passthru") });
    expect(rig.snapshot()).toEqual(before);
  });
});

describe("MTU and MAC address", () => {
  test("mtu is that of the interface, and not above the master's", async () => {
    const { container } = await rig.attach({ master: "up0", mtu: 1300, ipam });
    expect(rig.link("eth0", container).mtu).toBe(1300);
    const { json } = await rig.add(rig.config({ master: "up0", mtu: 9000, ipam }), {
      netns: rig.container().path,
    });
    expect(json).toMatchObject({
      code: 7,
      msg: expect.stringContaining("invalid MTU 9000, must be [0, master MTU(1500)]"),
    });
  });

  test("runtimeConfig wins over args, that over CNI_ARGS, that over the configuration", async () => {
    const macs = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:04"];
    const [config, args, cni, runtime] = macs;
    const all = { mac: config, args: { cni: { mac: cni } }, runtimeConfig: { mac: runtime } };
    const given = async (extra: object, more = {}) => {
      const { container } = await rig.attach({ master: "up0", ipam, ...extra }, more);
      return rig.link("eth0", container).address;
    };
    expect(await given(all, { args: `IgnoreUnknown=1;MAC=${args}` })).toBe(runtime);
    expect(await given({ ...all, runtimeConfig: {} }, { args: `IgnoreUnknown=1;MAC=${args}` })).toBe(cni);
    expect(await given({ mac: config }, { args: `IgnoreUnknown=1;MAC=${args}` })).toBe(args);
    expect(await given({ mac: "02:00:00:00:00:09" })).toBe("02:00:00:00:00:09");
  });
});

test("without IPAM the interface is up and no more", async () => {
  const { container, result } = await rig.attach({
    master: "up0",
    ipam: {},
    dns: { nameservers: ["10.1.0.1"] },
  });
  expect(result).not.toHaveProperty("ips");
  expect(result.dns).toEqual({ nameservers: ["10.1.0.1"] });
  expect(rig.link("eth0", container).flags).toContain("UP");
});

describe("DEL", () => {
  test("leaves nothing, with and without the namespace", async () => {
    const before = rig.snapshot();
    const one = await rig.attach({ master: "up0", ipam });
    await rig.detach(one, { netns: one.container.path });
    expect(rig.links(one.container)).toEqual(["lo"]);
    // As containerd and ctr do: the record knows where the interface is.
    const two = await rig.attach({ master: "up0", ipam });
    await rig.detach(two);
    expect(rig.links(two.container)).toEqual(["lo"]);
    const three = await rig.attach({ master: "up0", ipam });
    three.container.remove();
    await rig.detach(three);
    await rig.detach(three);
    // The kernel takes its time with what is in a namespace that has gone.
    await vi.waitFor(() => expect(rig.snapshot()).toEqual(before), 10_000 * patience);
  });

  test("needs neither master nor default route", async () => {
    const one = await rig.attach({ ipam });
    rig.namespace.run("ip link del up0");
    await rig.detach(one, { netns: one.container.path });
    expect(rig.files()).toEqual([]);
  });

  test("takes a container of the reference plugin by its result, and nothing that belongs to another network", async () => {
    const one = await rig.attach({ master: "up0", ipam });
    const other = { containerId: one.containerId, config: rig.config({ name: "net2", master: "up0", ipam }) };
    await rig.detach(other, { netns: one.container.path });
    expect(rig.links(one.container)).toContain("eth0");
    const foreign = rig.container();
    rig.namespace.run(`ip link add link up0 name eth0 netns ${foreign.name} type macvlan mode bridge`);
    const prevResult = { cniVersion: "1.1.0", interfaces: [{ name: "eth0", sandbox: foreign.path }] };
    await rig.detach(
      { containerId: "c9", config: rig.config({ master: "up0", ipam, prevResult }) },
      { netns: foreign.path },
    );
    expect(rig.links(foreign)).toEqual(["lo"]);
  });
});

test("CHECK names what is wrong, one thing after the other", async () => {
  const one = await rig.attach({ master: "up0", ipam: { ...ipam, routes: [{ dst: "0.0.0.0/0" }] } });
  const wrong = async (script: string) => {
    one.container.run(script);
    return (await rig.check(one)).json["msg"];
  };
  expect((await rig.check(one)).json).toEqual({});
  expect(await wrong("ip route del default")).toBe("route 0.0.0.0/0 via 10.1.0.1 is gone");
  expect(await wrong("ip addr del 10.1.0.10/24 dev eth0; ip addr add 10.1.0.11/24 dev eth0")).toContain(
    "address 10.1.0.10/24 is gone",
  );
  expect(await wrong("ip link set eth0 type macvlan mode private")).toContain(
    "mode private instead of bridge",
  );
  expect(await wrong("ip link set eth0 down")).toContain('"eth0" is down');
  rig.namespace.run("ip link set up0 down");
  expect(await wrong("ip link del eth0")).toContain('"eth0" is gone; master "up0" is down');
});

test("a repeated ADD answers with what stands; one of a container that was started again replaces it", async () => {
  const one = await rig.attach({ master: "up0", ipam });
  const again = await rig.add(one.config, { netns: one.container.path, containerId: one.containerId });
  expect(again.json).toMatchObject({ ...one.result });
  const next = rig.container();
  const { json } = await rig.add(one.config, { netns: next.path, containerId: one.containerId });
  expect(json).toMatchObject({ ips: [{ address: "10.1.0.11/24" }] });
  expect(rig.links(next)).toContain("eth0");
});

test("an ADD whose addresses run out leaves nothing", async () => {
  const small = {
    type: "host-local",
    ranges: [[{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.10", rangeEnd: "10.1.0.10" }]],
  };
  await rig.attach({ master: "up0", ipam: small });
  const before = rig.snapshot();
  const container = rig.container();
  expect(
    (await rig.add(rig.config({ master: "up0", ipam: small }), { netns: container.path })).json,
  ).toHaveProperty("code");
  expect(rig.links(container)).toEqual(["lo"]);
  expect(rig.snapshot()).toEqual(before);
});

test("GC removes what is not in the list, STATUS says what is missing", async () => {
  const keep = await rig.attach({ master: "up0", ipam });
  const stale = await rig.attach({ master: "up0", ipam });
  const config = {
    ...keep.config,
    "cni.dev/valid-attachments": [{ containerID: keep.containerId, ifname: "eth0" }],
  };
  expect(await rig.call(macvlan, "GC", config)).toMatchObject({ exitCode: 0 });
  expect(rig.links(stale.container)).toEqual(["lo"]);
  expect(rig.links(keep.container)).toContain("eth0");
  expect(await rig.call(macvlan, "STATUS", keep.config)).toMatchObject({ exitCode: 0 });
  expect((await rig.call(macvlan, "STATUS", { ...keep.config, master: "up9" })).json).toMatchObject({
    code: 50,
  });
});
