import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { type Attached, BridgeRig } from "#testing/bridge-rig.ts";
import { hasFeature, testWith } from "#testing/requires.ts";

let rig: BridgeRig;
beforeEach(() => {
  rig = new BridgeRig();
});
afterEach(async () => {
  await rig.close();
});

/** The host's end of a container's veth. */
function portOf({ result }: Attached): string {
  return result.interfaces[1]?.name ?? "";
}

async function refusal(config: JsonObject): Promise<JsonObject> {
  const before = rig.snapshot();
  const container = rig.container();
  const { exitCode, json } = await rig.add(config, { netns: container.path });
  expect(exitCode).toBe(1);
  expect(rig.snapshot()).toEqual(before);
  expect(rig.links(container)).toEqual(["lo"]);
  return json;
}

test("isGateway makes the bridge the gateway and the host a router, but sets no default route", async () => {
  const { container } = await rig.attach({ isGateway: true });
  expect(rig.addresses("br1")).toEqual(["10.1.0.1/24"]);
  expect(rig.sysctl("net/ipv4/ip_forward")).toBe("1");
  expect(rig.sysctl("net/ipv6/conf/all/forwarding")).toBe("0");
  expect(rig.reaches(container, "10.1.0.1")).toBe(true);
  expect(container.run("ip route show default")).toBe("");
});

test("isDefaultGateway routes everything through it", async () => {
  const { container, result } = await rig.attach({ isDefaultGateway: true });
  expect(container.run("ip route show default")).toContain("default via 10.1.0.1 dev eth0");
  expect(result.routes).toEqual([{ dst: "0.0.0.0/0", gw: "10.1.0.1" }]);
});

describe("forceAddress", () => {
  test("without it another address of the bridge is refused, naming both", async () => {
    rig.namespace.run("ip link add br1 type bridge; ip link set br1 up; ip addr add 10.7.0.1/24 dev br1");
    const { code, msg, details } = await refusal(rig.config({ isGateway: true }));
    expect(code).toBe(7);
    expect(msg).toBe('"br1" already has an IP address different from 10.1.0.1/24');
    expect(details).toContain("10.7.0.1/24");
  });

  test("with it that address is replaced", async () => {
    rig.namespace.run("ip link add br1 type bridge; ip link set br1 up; ip addr add 10.7.0.1/24 dev br1");
    await rig.attach({ isGateway: true, forceAddress: true });
    expect(rig.addresses("br1")).toEqual(["10.1.0.1/24"]);
  });

  test("IPv6 addresses of other subnets stay beside ours either way", async () => {
    rig.namespace.run("ip link add br1 type bridge; ip addr add fd00:7::1/64 dev br1 nodad");
    const ipam = { type: "host-local", ranges: [[{ subnet: "fd00:1::/64" }]] };
    await rig.attach({ isGateway: true, ipam });
    expect(rig.addresses("br1").sort()).toEqual(["fd00:1::1/64", "fd00:7::1/64"]);
  });
});

test("mtu is that of the veth pair and of a new bridge", async () => {
  const attached = await rig.attach({ mtu: 1400 });
  expect(attached.result.interfaces.map(({ mtu }) => mtu)).toEqual([1400, 1400, 1400]);
  expect(rig.link("eth0", attached.container).mtu).toBe(1400);
  expect(rig.link(portOf(attached)).mtu).toBe(1400);
  expect(rig.link("br1").mtu).toBe(1400);
});

test("hairpinMode lets frames leave by the port that they came in by", async () => {
  const attached = await rig.attach({ hairpinMode: true });
  expect(rig.link(portOf(attached)).linkinfo?.info_slave_data).toMatchObject({
    hairpin: true,
    isolated: false,
  });
  const plain = await rig.attach();
  expect(rig.link(portOf(plain)).linkinfo?.info_slave_data).toMatchObject({ hairpin: false });
});

test("promiscMode makes the bridge promiscuous, also one that was not", async () => {
  await rig.attach();
  expect(rig.link("br1").flags).not.toContain("PROMISC");
  await rig.attach({ promiscMode: true });
  expect(rig.link("br1").flags).toContain("PROMISC");
});

test("portIsolation keeps two containers apart, and neither from the gateway", async () => {
  const config = { isGateway: true, portIsolation: true };
  const [one, two] = [await rig.attach(config), await rig.attach(config)];
  expect(rig.reaches(one.container, "10.1.0.1")).toBe(true);
  expect(rig.isSilent(one.container, "10.1.0.3")).toBe(true);
  expect(rig.isSilent(two.container, "10.1.0.2")).toBe(true);
});

describe("macspoofchk", () => {
  test("frames under another MAC address are dropped, those under the own one pass", async () => {
    const one = await rig.attach({ macspoofchk: true });
    await rig.attach();
    expect(rig.reaches(one.container, "10.1.0.3")).toBe(true);
    one.container.run("ip link set eth0 address 02:00:00:00:00:66; ip neigh flush all");
    expect(rig.isSilent(one.container, "10.1.0.3")).toBe(true);
    await rig.detach(one);
    expect(rig.elements()).toEqual([]);
  });

  test("without it they pass", async () => {
    const one = await rig.attach();
    await rig.attach();
    one.container.run("ip link set eth0 address 02:00:00:00:00:66");
    expect(rig.reaches(one.container, "10.1.0.3")).toBe(true);
  });
});

test("disableContainerInterface makes the interface and leaves it down", async () => {
  const { ipam: _, ...config } = rig.config({ disableContainerInterface: true });
  const container = rig.container();
  const { json } = await rig.add(config, { netns: container.path });
  expect(json["interfaces"]).toHaveLength(3);
  expect(rig.link("eth0", container).flags).not.toContain("UP");
});

describe("mac", () => {
  test("from runtimeConfig it wins, and the kernel has it", async () => {
    const { container, result } = await rig.attach(
      { runtimeConfig: { mac: "02:00:00:00:00:03" }, args: { cni: { mac: "02:00:00:00:00:02" } } },
      { args: "MAC=02:00:00:00:00:01;IgnoreUnknown=1;K8S_POD_NAME=web" },
    );
    expect(rig.link("eth0", container).address).toBe("02:00:00:00:00:03");
    expect(result.interfaces[2]?.mac).toBe("02:00:00:00:00:03");
  });

  test("from CNI_ARGS alone, as podman sends it, with the address", async () => {
    const { container, result } = await rig.attach(
      {},
      { args: "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.1.0.77;MAC=02-00-00-00-00-01" },
    );
    expect(rig.link("eth0", container).address).toBe("02:00:00:00:00:01");
    expect(result.ips[0]?.address).toBe("10.1.0.77/24");
  });
});

test("ips of every channel reach the IPAM plugin", async () => {
  const { result } = await rig.attach({ runtimeConfig: { ips: ["10.1.0.50"] } });
  expect(result.ips[0]?.address).toBe("10.1.0.50/24");
  const other = await rig.attach({ args: { cni: { ips: ["10.1.0.51"] } } });
  expect(other.result.ips[0]?.address).toBe("10.1.0.51/24");
});

describe("layer 2 only", () => {
  const l2 = { ipam: {} };

  test("containers have their interfaces up and no addresses, and see each other's frames", async () => {
    const [one, two] = [await rig.attach(l2), await rig.attach(l2)];
    expect(one.result.ips).toBeUndefined();
    expect(rig.link("eth0", one.container).operstate).toBe("UP");
    one.container.run("ip addr add 10.5.0.1/24 dev eth0");
    two.container.run("ip addr add 10.5.0.2/24 dev eth0");
    expect(rig.reaches(one.container, "10.5.0.2")).toBe(true);
    expect(await rig.check(one)).toMatchObject({ exitCode: 0 });
  });

  test("isGateway and ipMasq make nothing there", async () => {
    await rig.attach({ ...l2, isDefaultGateway: true, ipMasq: true });
    expect(rig.addresses("br1")).toEqual([]);
    expect(rig.elements()).toEqual([]);
    expect(rig.sysctl("net/ipv4/ip_forward")).toBe("0");
  });

  test("0.2.0 can't express it: nothing is begun", async () => {
    const before = rig.snapshot();
    const { json } = await rig.add(rig.config({ ...l2, cniVersion: "0.2.0" }), {
      netns: rig.container().path,
    });
    expect(json).toMatchObject({ code: 7 });
    expect(rig.snapshot()).toEqual(before);
  });
});

describe("routes", () => {
  const routed = (routes: JsonObject[]) => ({
    ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }]], routes },
  });

  test("mtu, advmss, priority and table are applied", async () => {
    const { container } = await rig.attach(
      routed([
        { dst: "10.9.0.0/16", mtu: 1300, advmss: 1200, priority: 50 },
        { dst: "10.8.0.0/16", gw: "10.1.0.44", table: 100 },
      ]),
    );
    expect(container.run("ip route show 10.9.0.0/16")).toMatch(
      /via 10\.1\.0\.1 dev eth0 metric 50 mtu 1300 advmss 1200/,
    );
    expect(container.run("ip route show table 100")).toMatch(/10\.8\.0\.0\/16 via 10\.1\.0\.44/);
  });

  test("several gateways of one destination are all there, in order", async () => {
    const { container } = await rig.attach(
      routed([
        { dst: "0.0.0.0/0", gw: "10.1.0.7" },
        { dst: "0.0.0.0/0", gw: "10.1.0.8" },
      ]),
    );
    const vias = [...container.run("ip route show default").matchAll(/via (\S+)/g)].map(([, via]) => via);
    expect(vias).toEqual(["10.1.0.7", "10.1.0.8"]);
  });

  test("the same one twice is one", async () => {
    const { container } = await rig.attach({
      ...routed([{ dst: "0.0.0.0/0" }, { dst: "0.0.0.0/0", gw: "10.1.0.1" }]),
      isDefaultGateway: true,
    });
    expect(container.run("ip route show default").trim().split("\n")).toHaveLength(1);
  });

  test("a gateway that cannot be reached is refused, naming the route", async () => {
    const { msg } = await refusal(rig.config(routed([{ dst: "10.9.0.0/16", gw: "192.0.2.1" }])));
    expect(msg).toContain("10.9.0.0/16 via 192.0.2.1");
  });
});

test("dns of the config replaces that of the IPAM plugin", async () => {
  const { result } = await rig.attach({ dns: { nameservers: ["10.1.0.53"], search: ["x.test"] } });
  expect(result.dns).toEqual({ nameservers: ["10.1.0.53"], search: ["x.test"] });
});

test("ipMasqBackend iptables is served by nftables, and by iptables for who insists", async () => {
  const served = await rig.attach({ ipMasq: true, ipMasqBackend: "iptables" });
  expect(rig.elements().some((element) => element.includes("10.1.0.2"))).toBe(true);
  await rig.detach(served);
  const insisting = await rig.attach({ ipMasq: true, ipMasqBackend: "iptables", insistOnBackend: true });
  const address = insisting.result.ips[0]?.address.split("/")[0] ?? "";
  expect(rig.namespace.run("iptables-save -t nat")).toMatch(
    new RegExp(`-A POSTROUTING -s ${address}/32 .*-j CNI-`),
  );
  expect(await rig.check(insisting)).toMatchObject({ exitCode: 0 });
  await rig.detach(insisting);
  expect(rig.namespace.run("iptables-save -t nat")).not.toContain("CNI-");
});

describe("VLANs", () => {
  testWith(
    ["bridge-vlan-filtering"],
    "vlan separates containers of one bridge, each with its gateway",
    async () => {
      const inVlan = (vlan: number, subnet: string) => ({
        vlan,
        isGateway: true,
        ipam: { type: "host-local", ranges: [[{ subnet }]] },
        name: `net${vlan}`,
      });
      const one = await rig.attach(inVlan(100, "10.1.0.0/24"));
      const two = await rig.attach(inVlan(200, "10.2.0.0/24"));
      const same = await rig.attach(inVlan(100, "10.1.0.0/24"));
      expect(one.result.interfaces[3]?.name).toBe("br1.100");
      expect(rig.addresses("br1.100")).toEqual(["10.1.0.1/24"]);
      expect(rig.reaches(one.container, "10.1.0.1")).toBe(true);
      expect(rig.reaches(one.container, "10.1.0.3")).toBe(true);
      two.container.run("ip addr add 10.1.0.99/24 dev eth0");
      expect(rig.isSilent(one.container, "10.1.0.99")).toBe(true);
      await rig.detach(one);
      expect(rig.links()).toContain("br1.100");
      await rig.detach(same);
      expect(rig.links()).not.toContain("br1.100");
      expect(rig.links()).toContain("br1.200");
    },
  );

  testWith(["bridge-vlan-filtering"], "vlanTrunk lets tagged frames through, and no others", async () => {
    const attached = await rig.attach({ vlanTrunk: [{ id: 7 }, { minID: 100, maxID: 102 }] });
    const shown = rig.namespace.run(`bridge vlan show dev ${portOf(attached)}`);
    expect(shown).toMatch(/1 PVID Egress Untagged/);
    for (const id of [7, 100, 101, 102]) expect(shown).toMatch(new RegExp(`\\b${id}\\b`));
    const access = await rig.attach({ vlan: 100 });
    expect(rig.namespace.run(`bridge vlan show dev ${portOf(access)}`)).not.toMatch(/^\S+\s+1 /m);
    const preserving = await rig.attach({ vlan: 100, preserveDefaultVlan: true });
    expect(rig.namespace.run(`bridge vlan show dev ${portOf(preserving)}`)).toMatch(/\b1 Egress Untagged/);
  });

  // The other way round on a kernel that has it.
  if (!hasFeature("bridge-vlan-filtering")) {
    test("a kernel without VLAN filtering is named as what is missing", async () => {
      const { code, msg } = await refusal(rig.config({ vlan: 100 }));
      expect(code).toBe(50);
      expect(msg).toContain("CONFIG_BRIDGE_VLAN_FILTERING");
    });
  }
});
