import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type IfName, parseIfName } from "#net/ifname.ts";
import { parseIp } from "#net/ip.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { policyElements } from "./network-policy.ts";
import { Nftables } from "./nftables.ts";
import { applyOverlayRules, type OverlayRules } from "./overlay-rules.ts";

/** This host, two more on the same wire, of which one is a member, and a container. */
let host: TestNamespace;
let member: TestNamespace;
let stranger: TestNamespace;
let container: TestNamespace;
/** A bridge of its own: frames of the host's bridges may pass the host's rules. */
let wire: TestNamespace;
let nftables: Nftables;

const [own, other] = [parseIp("203.0.113.1"), parseIp("203.0.113.2")];
const [uplink, bridge, tunnel] = ["up0", "nvbweb", "nvweb"].map((name) => parseIfName(name)) as [
  IfName,
  IfName,
  IfName,
];

/** What the kernel calls an interface of the host. */
const ifindex = (name: string) => Number(host.run(`ip -o link show ${name} | cut -d: -f1`));

const rules = (udpPort: number, more: Partial<OverlayRules> = {}): OverlayRules => ({
  udpPort,
  vteps: [own, other],
  own: [{ address: own, device: { name: uplink, ifindex: ifindex("up0") } }],
  encryptors: [],
  tunnels: [{ tunnel, bridge, internal: false, stretched: false }],
  ...more,
});

const network = (icc: boolean) =>
  policyElements(bridge, {
    internal: false,
    icc,
    isolated: true,
    access: { 4: "open", 6: "open" },
    trusted: [tunnel],
  });

beforeEach(() => {
  host = TestNamespace.create("host");
  member = TestNamespace.create("member");
  stranger = TestNamespace.create("stranger");
  container = TestNamespace.create("container");
  wire = TestNamespace.create("wire");
  // Sources are not checked, so that only the rules are in the way of forged ones.
  host.run(`
    for each in all default; do echo 0 >/proc/sys/net/ipv4/conf/$each/rp_filter; done
    echo 1 >/proc/sys/net/ipv4/ip_forward
    ip link add nvbweb type bridge; ip link set nvbweb up; ip address add 10.128.0.1/24 dev nvbweb`);
  wire.run("ip link add wire type bridge; ip link set wire up");
  for (const [index, end] of [host, member, stranger].entries()) {
    wire.run(
      `ip link add p${index} type veth peer name up0 netns ${end.name}; ip link set p${index} master wire up`,
    );
    end.run(`ip link set up0 up; ip address add 203.0.113.${index + 1}/24 dev up0`);
  }
  host.run(
    `ip link add v0 type veth peer name eth0 netns ${container.name}; ip link set v0 master nvbweb up`,
  );
  // It claims the address of the other host, too.
  container.run(`ip link set eth0 up; ip address add 10.128.0.2/24 dev eth0; ip address add 203.0.113.2/32 dev eth0
    ip route add default via 10.128.0.1; ip route add 203.0.113.1 via 10.128.0.1 src 203.0.113.2`);
  nftables = new Nftables({ namespacePath: host.path });
});
afterEach(() => {
  nftables.close();
  for (const each of [host, member, stranger, container, wire]) each.remove();
});

/** How many datagrams to the port a namespace has let in, and how many of them it tracks. */
function count(at: TestNamespace, port: number) {
  at.run(`nft add table inet probe
    nft add chain inet probe input '{ type filter hook input priority 10; }'
    nft add chain inet probe output '{ type filter hook output priority 10; }'
    nft add counter inet probe seen; nft add counter inet probe tracked; nft add counter inet probe sent
    nft add rule inet probe input udp dport ${port} counter name seen
    nft add rule inet probe input udp dport ${port} ct state new,established counter name tracked
    nft add rule inet probe output udp dport ${port} ct state new,established counter name sent`);
  const value = (name: string) =>
    Number(/packets (\d+)/u.exec(at.run(`nft list counter inet probe ${name}`))?.[1]);
  return { all: () => value("seen"), tracked: () => value("tracked"), sentTracked: () => value("sent") };
}

const send = (from: TestNamespace, to: string, port: number, times = 3) =>
  from.run(`for i in $(seq ${times}); do bash -c 'echo x >/dev/udp/${to}/${port}' 2>/dev/null || true; done`);

describe.each([4789, 4790])("VXLAN on port %i", (port) => {
  it("comes from members alone, and from no container under a member's address", async () => {
    await nftables.apply(network(true));
    await applyOverlayRules(nftables, rules(port));
    const seen = count(host, port);
    send(member, "203.0.113.1", port);
    expect(seen.all()).toBe(3);
    expect(seen.tracked()).toBe(0);
    send(stranger, "203.0.113.1", port);
    send(container, "203.0.113.1", port);
    expect(seen.all()).toBe(3);
    // Not known by the device that it comes by: the rest of the rules.
    await applyOverlayRules(nftables, rules(port, { own: [{ address: own, device: undefined }] }));
    send(member, "203.0.113.1", port);
    expect(seen.all()).toBe(6);
    expect(seen.tracked()).toBe(0);
    send(stranger, "203.0.113.1", port);
    send(container, "203.0.113.1", port);
    expect(seen.all()).toBe(6);
  });

  it("goes to members untracked, and from no container to any", async () => {
    await nftables.apply(network(true));
    await applyOverlayRules(nftables, rules(port));
    const [sent, arrived] = [count(host, port), count(member, port)];
    send(host, "203.0.113.2", port);
    expect([arrived.all(), sent.sentTracked()]).toEqual([3, 0]);
    container.run("ip address del 203.0.113.2/32 dev eth0");
    member.run("ip route add 10.128.0.0/24 via 203.0.113.1");
    send(container, "203.0.113.2", port);
    expect(arrived.all()).toBe(3);
  });

  it("is nobody's business on another port", async () => {
    await nftables.apply(network(true));
    await applyOverlayRules(nftables, rules(port));
    const elsewhere = port === 4789 ? 4790 : 4789;
    const seen = count(host, elsewhere);
    send(member, "203.0.113.1", elsewhere);
    send(stranger, "203.0.113.1", elsewhere);
    expect([seen.all(), seen.tracked()]).toEqual([6, 6]);
    send(host, "203.0.113.2", elsewhere);
    expect(seen.sentTracked()).toBe(3);
    expect(nftables.hasSkeleton("inet")).toBe(true);
    expect(await nftables.skeletonState("inet")).toBe("current");
  });
});

it("leaves TCP alone, and everything once the host has left its cluster", async () => {
  await applyOverlayRules(nftables, rules(4789));
  host.run(`nft add table inet probetcp; nft add chain inet probetcp input '{ type filter hook input priority 10; }'
    nft add counter inet probetcp seen; nft add rule inet probetcp input tcp dport 4789 counter name seen`);
  stranger.run("timeout 3 bash -c 'echo x >/dev/tcp/203.0.113.1/4789' 2>/dev/null || true");
  expect(host.run("nft list counter inet probetcp seen")).toContain("packets 1 ");
  await applyOverlayRules(nftables, undefined);
  const seen = count(host, 4789);
  send(stranger, "203.0.113.1", 4789);
  expect([seen.all(), seen.tracked()]).toEqual([3, 3]);
});

it("looks ports up only where a cluster has another one", async () => {
  const text = () => host.run("nft list chain inet netctl overlay_prerouting");
  await applyOverlayRules(nftables, rules(4789));
  expect(text()).not.toContain("@vxlan_ports");
  await applyOverlayRules(nftables, rules(4790));
  expect(text()).toContain("@vxlan_ports");
  host.run("nft delete table inet netctl");
  await applyOverlayRules(nftables, rules(4789));
  expect(text()).not.toContain("@vxlan_ports");
});

it("knows no shorter way for what comes by a device that containers are behind", async () => {
  const at = { own: [{ address: own, device: { name: bridge, ifindex: ifindex("nvbweb") } }] };
  await applyOverlayRules(nftables, rules(4789, at));
  expect(await nftables.list("vxlanSources4")).toHaveLength(1);
  await nftables.apply(network(true));
  await applyOverlayRules(nftables, rules(4789, at));
  expect(await nftables.list("vxlanSources4")).toEqual([]);
});

it("lets what stays on a stretched bridge through early, but not where containers are kept apart", async () => {
  const stretched = { tunnels: [{ tunnel, bridge, internal: false, stretched: true }] };
  const isThere = async () =>
    (await nftables.list("networkWays")).some(({ key: [from, to] }) => from === bridge && to === bridge);
  await nftables.apply(network(true));
  await applyOverlayRules(nftables, rules(4789, stretched));
  expect(await isThere()).toBe(true);
  host.run("nft add element inet netctl icc_off '{ nvbweb . nvbweb }'");
  await applyOverlayRules(nftables, rules(4789, stretched));
  expect(await isThere()).toBe(false);
});
