import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { PortRig, type Published } from "#testing/port-rig.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ask, type Question } from "#testing/traffic.ts";
import { bridge } from "./main.ts";

/** What `netctl network create` gives a network. */
const made: JsonObject = { gatewayMode: { ipv4: "nat", ipv6: "nat" }, networkIsolation: true };
const web = [
  { hostPort: 8080, containerPort: 80, protocol: "tcp" },
  { hostPort: 8080, containerPort: 80, protocol: "udp" },
];
const lan4 = "192.0.2.1";
const lan6 = "2001:db8::1";

let rig: PortRig;

/** Answers to `ADDRESS PORT`, "yes" where both protocols are answered by that server, "no" where neither is. */
async function reach(from: TestNamespace, server: string, targets: readonly string[]): Promise<string[]> {
  const questions = targets.flatMap((target): Question[] => {
    const [to = "", port] = target.split(" ");
    return [
      { protocol: "tcp", to, port: Number(port) },
      { protocol: "udp", to, port: Number(port) },
    ];
  });
  const answers = await ask(from, questions);
  return targets.map((target, index) => {
    const [tcp, udp] = [answers[2 * index] ?? "", answers[2 * index + 1] ?? ""];
    const reached = [tcp, udp].map((answer) => answer.startsWith(`${server} sees`));
    return `${target}: ${reached[0] === reached[1] ? (reached[0] ? "yes" : "no") : `tcp ${tcp}, udp ${udp}`}`;
  });
}

const all = (targets: readonly string[], answer: "yes" | "no") =>
  targets.map((target) => `${target}: ${answer}`);

/** Whether bridges hand frames to the firewall (bridge-nf-call-iptables), where the kernel can do that at all. */
function filterFrames(on: boolean): void {
  rig.namespace.run(
    `for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo ${on ? 1 : 0} > $f; done`,
  );
}

/** Tells a neighbour on the LAN the way to a network. */
function craft(...networks: readonly number[]): void {
  for (const n of networks) {
    rig.lan.run(`ip route add 10.${n}.0.0/24 via ${lan4}; ip route add fd00:${n}::/64 via ${lan6}`);
  }
}

describe("a network with gatewayMode nat and networkIsolation", () => {
  let target: Published;
  let neighbour: Published;
  let other: Published;
  let plain: Published;

  beforeAll(async () => {
    rig = new PortRig();
    target = await rig.attach({ mappings: web, bridgeFields: made });
    neighbour = await rig.attach({ bridgeFields: made });
    other = await rig.attach({ network: "net2", bridgeFields: made });
    plain = await rig.attach({ network: "net3" });
    await rig.serve(target.container, "target", [80, 82]);
    await rig.serve(plain.container, "plain", [80]);
    craft(1, 3);
  });
  afterAll(() => rig.close());

  const own = () => [`${target.ip4} 80`, `${target.ip6} 80`, `${target.ip4} 82`, `${target.ip6} 82`];
  const published = [`${lan4} 8080`, `${lan6} 8080`];

  it("hides the containers' own addresses from the LAN, published or not, in both families", async () => {
    expect(await reach(rig.lan, "target", own())).toEqual(all(own(), "no"));
    expect(await reach(rig.lan, "target", published)).toEqual(all(published, "yes"));
  });

  it("is open within, to the host, and from every network by published ports", async () => {
    expect(await reach(neighbour.container, "target", own())).toEqual(all(own(), "yes"));
    expect(await reach(rig.namespace, "target", own())).toEqual(all(own(), "yes"));
    for (const from of [target, neighbour, other, plain]) {
      expect(await reach(from.container, "target", published)).toEqual(all(published, "yes"));
    }
    const byGateway = ["10.2.0.1 8080", "fd00:2::1 8080"];
    expect(await reach(other.container, "target", byGateway)).toEqual(all(byGateway, "yes"));
  });

  it("is closed to other networks, and they to it, be they in the reference's shape", async () => {
    expect(await reach(other.container, "target", own())).toEqual(all(own(), "no"));
    expect(await reach(plain.container, "target", own())).toEqual(all(own(), "no"));
    const theirs = [`${plain.ip4} 80`, `${plain.ip6} 80`];
    expect(await reach(target.container, "plain", theirs)).toEqual(all(theirs, "no"));
    expect(await reach(rig.lan, "plain", theirs)).toEqual(all(theirs, "yes"));
  });

  it("lets containers out", async () => {
    await rig.serve(rig.lan, "lan", [7000]);
    const outside = ["192.0.2.2 7000", "2001:db8::2 7000"];
    expect(await reach(target.container, "lan", outside)).toEqual(all(outside, "yes"));
  });

  it("is opened and closed by the operator's own chain, which survives a repair", async () => {
    rig.namespace.run(`
      nft add rule inet netctl user_forward ip saddr 192.0.2.2 ip daddr ${target.ip4} udp dport 82 accept
      nft add rule inet netctl user_forward ip saddr 192.0.2.2 ip daddr ${target.ip4} tcp dport 82 accept
      nft 'add rule inet netctl user_forward meta nfproto ipv6 meta l4proto { tcp, udp } ct original proto-dst 8080 drop'`);
    await rig.host.nftables.load("inet");
    const targets = [`${target.ip4} 82`, `${target.ip6} 82`, ...published];
    expect(await reach(rig.lan, "target", targets)).toEqual([
      `${target.ip4} 82: yes`,
      `${target.ip6} 82: no`,
      `${lan4} 8080: yes`,
      `${lan6} 8080: no`,
    ]);
    expect(await rig.host.nftables.skeletonState("inet")).toBe("current");
    rig.namespace.run("nft flush chain inet netctl user_forward");
  });
});

const bothFamilies = (mode: string): JsonObject => ({ gatewayMode: { ipv4: mode, ipv6: mode } });

describe("a network of its own kind", () => {
  beforeEach(() => {
    rig = new PortRig();
  });
  afterEach(() => rig.close());

  const portOf = ({ ip4, ip6 }: Published, port = 80) => [`${ip4} ${port}`, `${ip6} ${port}`];

  it("internal: reaches no published port by its own gateway, no other network and not the LAN, whatever its routes", async () => {
    const internal = { internal: true, isDefaultGateway: true };
    const inside = await rig.attach({ network: "net1", bridgeFields: internal });
    const friend = await rig.attach({ network: "net1", bridgeFields: internal });
    const target = await rig.attach({ network: "net2", mappings: web, bridgeFields: made });
    await rig.serve(target.container, "target", [80]);
    await rig.serve(friend.container, "friend", [80]);
    await rig.serve(rig.lan, "lan", [7000]);
    expect(inside.container.run("ip route show default; ip -6 route show default")).toBe("");
    inside.container.run("ip route add default via 10.1.0.1; ip route add default via fd00:1::1");
    const closed = ["10.1.0.1 8080", "fd00:1::1 8080", `${lan4} 8080`, `${lan6} 8080`, ...portOf(target)];
    expect(await reach(inside.container, "target", closed)).toEqual(all(closed, "no"));
    const outside = ["192.0.2.2 7000", "2001:db8::2 7000"];
    expect(await reach(inside.container, "lan", outside)).toEqual(all(outside, "no"));
    craft(1);
    for (const from of [rig.lan, target.container]) {
      expect(await reach(from, "friend", portOf(friend))).toEqual(all(portOf(friend), "no"));
    }
    for (const from of [rig.namespace, inside.container]) {
      expect(await reach(from, "friend", portOf(friend))).toEqual(all(portOf(friend), "yes"));
    }
  });

  it("internal: sends nothing as part of a connection that another network's container has", async () => {
    const inside = await rig.attach({ network: "net1", bridgeFields: { internal: true } });
    const other = await rig.attach({ network: "net2", bridgeFields: made });
    await rig.serve(rig.lan, "lan", [7000]);
    rig.namespace.run(
      "sysctl -qw net.ipv4.conf.all.rp_filter=0; sysctl -qw net.ipv4.conf.br-net1.rp_filter=0",
    );
    const asks = [
      [other.ip4, "192.0.2.2"],
      [other.ip6, "2001:db8::2"],
    ].map(([from = "", to = ""]): Question => ({ protocol: "udp", to, port: 7000, from, fromPort: 5555 }));
    expect(await ask(other.container, asks)).toEqual([`lan sees ${lan4}`, `lan sees ${lan6}`]);

    rig.lan.run("nft 'table inet witness { chain input { type filter hook input priority 0; }; }'");
    rig.lan.run("nft add rule inet witness input udp dport 7000 counter");
    const arrived = () => Number(/packets (\d+)/u.exec(rig.lan.run("nft list table inet witness"))?.[1]);
    inside.container.run(`
      ip addr add ${other.ip4}/32 dev eth0; ip addr add ${other.ip6}/128 dev eth0 nodad
      ip route add default via 10.1.0.1; ip route add default via fd00:1::1`);
    await ask(inside.container, asks);
    expect(arrived()).toBe(0);
    // The same where nothing stands before what belongs to a connection, so that the test is known to try.
    rig.namespace.run("nft flush set inet netctl internal");
    await ask(inside.container, asks);
    expect(arrived()).toBe(2);
  });

  it("internal and published: is reached from the host alone", async () => {
    const inside = await rig.attach({ mappings: web, bridgeFields: { internal: true } });
    await rig.serve(inside.container, "inside", [80]);
    expect(await reach(rig.namespace, "inside", ["127.0.0.1 8080"])).toEqual(["127.0.0.1 8080: yes"]);
    expect(await reach(rig.lan, "inside", [`${lan4} 8080`, `${lan6} 8080`])).toEqual([
      `${lan4} 8080: no`,
      `${lan6} 8080: no`,
    ]);
  });

  it("internal and isolated: has no gateway, and the host neither reaches it nor listens", async () => {
    const fields = { internal: true, ...bothFamilies("isolated") };
    const one = await rig.attach({ bridgeFields: fields });
    const two = await rig.attach({ bridgeFields: fields });
    await rig.serve(two.container, "two", [80]);
    await rig.serve(rig.namespace, "host", [9000]);
    expect(rig.namespace.run("ip -br addr show dev br-net1")).not.toMatch(/10\.1\.0|fd00:1::/u);
    expect(JSON.stringify(one.result)).not.toContain("gateway");
    expect(await reach(one.container, "two", portOf(two))).toEqual(all(portOf(two), "yes"));
    expect(await reach(rig.namespace, "two", portOf(two))).toEqual(all(portOf(two), "no"));
    // By an address that the host has elsewhere, to the bridge's MAC address.
    const mac = rig.namespace.run(
      "cat /sys/class/net/br-net1/address 2>/dev/null || ip -br link show br-net1 | awk '{print $3}'",
    );
    one.container.run(`
      ip route add ${lan4} dev eth0; ip neigh replace ${lan4} lladdr ${mac.trim()} dev eth0 nud permanent
      ip route add ${lan6} dev eth0; ip neigh replace ${lan6} lladdr ${mac.trim()} dev eth0 nud permanent`);
    rig.namespace.run("ip route add 10.1.0.0/24 dev br-net1; ip route add fd00:1::/64 dev br-net1");
    const host = [`${lan4} 9000`, `${lan6} 9000`];
    expect(await reach(one.container, "host", host)).toEqual(all(host, "no"));
    rig.namespace.run("nft flush chain inet netctl input");
    expect(await reach(one.container, "host", host)).toEqual(all(host, "yes"));
  });

  it("icc false: containers don't reach each other, by way of the host neither, but by published ports", async () => {
    const fields = { icc: false, ...made };
    const one = await rig.attach({ bridgeFields: fields });
    const two = await rig.attach({ bridgeFields: fields, mappings: web });
    await rig.serve(two.container, "two", [80]);
    await rig.serve(rig.lan, "lan", [7000]);
    for (const on of [true, false]) {
      filterFrames(on);
      expect(await reach(one.container, "two", portOf(two))).toEqual(all(portOf(two), "no"));
    }
    one.container.run(`ip route add ${two.ip4} via 10.1.0.1; ip route add ${two.ip6} via fd00:1::1`);
    expect(await reach(one.container, "two", portOf(two))).toEqual(all(portOf(two), "no"));
    expect(await reach(one.container, "two", [`${lan4} 8080`])).toEqual([`${lan4} 8080: yes`]);
    expect(await reach(rig.namespace, "two", portOf(two))).toEqual(all(portOf(two), "yes"));
    expect(await reach(one.container, "lan", ["192.0.2.2 7000"])).toEqual(["192.0.2.2 7000: yes"]);
  });

  it("routed: is reached at its published ports and by ICMP, untranslated, and claims no port of the host", async () => {
    const fields = { ...made, ...bothFamilies("routed") };
    const target = await rig.attach({ bridgeFields: fields, mappings: web });
    const rival = await rig.attach({ bridgeFields: fields, mappings: web });
    const other = await rig.attach({ network: "net2", bridgeFields: made });
    for (const each of [target, rival]) await rig.serve(each.container, "target", [80, 82]);
    craft(1);
    expect(await reach(rig.lan, "target", portOf(target))).toEqual(all(portOf(target), "yes"));
    expect(await reach(other.container, "target", portOf(rival))).toEqual(all(portOf(rival), "yes"));
    const closed = [...portOf(target, 82), `${lan4} 8080`, `${lan6} 8080`];
    expect(await reach(rig.lan, "target", closed)).toEqual(all(closed, "no"));
    expect(rig.lan.run(`ping -c1 -W10 ${target.ip4}; ping -c1 -W10 ${target.ip6}`)).toContain(
      " 0% packet loss",
    );
    // Nobody hides behind the host.
    await rig.serve(rig.lan, "lan", [7000]);
    expect(await ask(target.container, [{ protocol: "tcp", to: "192.0.2.2", port: 7000 }])).toEqual([
      `lan sees ${target.ip4}`,
    ]);
    expect((await rig.portmap("CHECK", target, { mappings: web })).json).toEqual({});
    await rig.forget(target.containerId);
    expect(await reach(rig.lan, "target", portOf(target))).toEqual(all(portOf(target), "no"));
    expect(await reach(rig.lan, "target", portOf(rival))).toEqual(all(portOf(rival), "yes"));
  });

  it("nat-unprotected: is reached at every port by who has a route, and by other networks only if not isolated", async () => {
    const fields = { networkIsolation: true, ...bothFamilies("nat-unprotected") };
    const target = await rig.attach({ bridgeFields: fields });
    const other = await rig.attach({ network: "net2", bridgeFields: made });
    await rig.serve(target.container, "target", [80]);
    craft(1);
    expect(await reach(rig.lan, "target", portOf(target))).toEqual(all(portOf(target), "yes"));
    expect(await reach(other.container, "target", portOf(target))).toEqual(all(portOf(target), "no"));
  });

  it("one mode for each family", async () => {
    const target = await rig.attach({
      bridgeFields: { gatewayMode: { ipv4: "nat", ipv6: "nat-unprotected" } },
    });
    await rig.serve(target.container, "target", [80]);
    craft(1);
    const [to4 = "", to6 = ""] = portOf(target);
    expect(await reach(rig.lan, "target", [to4, to6])).toEqual([`${to4}: no`, `${to6}: yes`]);
  });

  it("snat: leaves as the fixed address, whoever had the container's address before", async () => {
    rig.namespace.run("ip addr add 192.0.2.77/24 dev up0; ip addr add 2001:db8::77/64 dev up0 nodad");
    await rig.serve(rig.lan, "lan", [7000]);
    const fields = { snat: { ipv4: "192.0.2.77", ipv6: "2001:db8::77" } };
    const one = await rig.attach({ bridgeFields: fields });
    const questions = ["192.0.2.2", "2001:db8::2"].map(
      (to): Question => ({ protocol: "tcp", to, port: 7000 }),
    );
    expect(await ask(one.container, questions)).toEqual(["lan sees 192.0.2.77", "lan sees 2001:db8::77"]);
    // Somebody's who has gone without a trace.
    const next = "10.1.0.3";
    rig.namespace.run(
      `nft add element inet netctl snat4 '{ ${next} comment "5f0c3a9e01234567 a b c" : 192.0.2.1 }'`,
    );
    const two = await rig.attach({ bridgeFields: fields });
    expect(two.ip4).toBe(next);
    expect(await ask(two.container, questions)).toEqual(["lan sees 192.0.2.77", "lan sees 2001:db8::77"]);
  });

  it("trustedInterfaces: who comes from there reaches everything", async () => {
    const target = await rig.attach({ bridgeFields: { ...made, trustedInterfaces: ["up0"] } });
    const other = await rig.attach({ network: "net2", bridgeFields: made });
    await rig.serve(target.container, "target", [80]);
    craft(1);
    expect(await reach(rig.lan, "target", portOf(target))).toEqual(all(portOf(target), "yes"));
    expect(await reach(other.container, "target", portOf(target))).toEqual(all(portOf(target), "no"));
  });
});

describe("what holds for a network", () => {
  beforeEach(() => {
    rig = new PortRig();
  });
  afterEach(() => rig.close());

  const policies = () =>
    rig.namespace
      .run("nft list table inet netctl")
      .match(/"br-net\d"( comment \S+)? : 0x[0-9a-f]+|"up0" \. "br-net\d"/gu) ?? [];

  it("follows a changed configuration with the next container, and goes with the last", async () => {
    const one = await rig.attach({ bridgeFields: { ...made, trustedInterfaces: ["up0"] } });
    await rig.serve(one.container, "one", [80]);
    craft(1);
    const target = [`${one.ip4} 80`];
    expect(await reach(rig.lan, "one", target)).toEqual(all(target, "yes"));
    const two = await rig.attach({ bridgeFields: { ...made, internal: true } });
    expect(await reach(rig.lan, "one", target)).toEqual(all(target, "no"));
    const three = await rig.attach({ bridgeFields: {} });
    expect(await reach(rig.lan, "one", target)).toEqual(all(target, "yes"));
    expect(policies()).toEqual(['"br-net1" : 0x00000000']);
    for (const { containerId } of [one, two, three]) await rig.detach(containerId);
    expect(policies()).toEqual([]);
    expect(rig.namespace.run("nft list set inet netctl bridges")).not.toContain("br-net1");
  });

  it("is dropped by a container that needs no rule at all", async () => {
    await rig.attach({ bridgeFields: { internal: true } });
    await rig.attach({ bridgeFields: { ipMasq: false } });
    expect(rig.namespace.run("nft list set inet netctl internal")).not.toContain("br-net1");
  });

  it("goes with the last, also where that one needs no rule itself", async () => {
    const one = await rig.attach({ bridgeFields: { internal: true } });
    const two = await rig.attach({ bridgeFields: { ipMasq: false } });
    await rig.detach(one.containerId);
    await rig.detach(two.containerId);
    expect(policies()).toEqual([]);
  });

  it("is one for all networks of a bridge: another is refused, and changes nothing", async () => {
    const one = await rig.attach({ bridgeFields: { internal: true } });
    const before = rig.namespace.run("nft list ruleset");
    const config = {
      cniVersion: "1.1.0",
      name: "rival",
      type: "bridge",
      bridge: "br-net1",
      ipMasq: true,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.9.0.0/24" }]] },
    };
    const container = rig.container();
    const add = async () =>
      await rig.call(bridge, "ADD", config, { containerId: "rival", ifName: "eth0", netns: container.path });
    expect((await add()).json).toMatchObject({
      code: 7,
      msg: expect.stringMatching(/network "net1" has container .* and differs in "internal"/u) as string,
    });
    expect(rig.namespace.run("nft list ruleset")).toBe(before);
    await rig.detach(one.containerId);
    expect((await add()).json).not.toHaveProperty("code");
  });

  it("is named by CHECK where it is gone", async () => {
    const { container, containerId, result } = await rig.attach({ bridgeFields: made });
    const config = {
      cniVersion: "1.1.0",
      name: "net1",
      type: "bridge",
      bridge: "br-net1",
      isGateway: true,
      ipMasq: true,
      ...made,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]] },
      prevResult: result,
    };
    const check = async () =>
      (await rig.call(bridge, "CHECK", config, { containerId, ifName: "eth0", netns: container.path })).json;
    expect(await check()).toEqual({});
    rig.namespace.run("nft delete element inet netctl protected6 '{ \"br-net1\" }'");
    expect(await check()).toMatchObject({ msg: expect.stringContaining("protected6") as string });
  });

  it("goes with a GC where the last DEL never came", async () => {
    await rig.attach({ bridgeFields: { internal: true } });
    const config = {
      cniVersion: "1.1.0",
      name: "net1",
      type: "bridge",
      bridge: "br-net1",
      "cni.dev/valid-attachments": [],
    };
    expect((await rig.call(bridge, "GC", config)).json).toEqual({});
    expect(policies()).toEqual([]);
  });
});
