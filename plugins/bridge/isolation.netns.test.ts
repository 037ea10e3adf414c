import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { PortRig, type Published } from "#testing/port-rig.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ask, type Question } from "#testing/traffic.ts";

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
