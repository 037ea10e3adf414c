import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PortRig, type Published } from "#testing/port-rig.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ask, type Question } from "#testing/traffic.ts";

/**
 * Who reaches what: a container with the ports 80 (published on all addresses as 8080), 81 (published on 127.0.0.1 as
 * 8081) and 82 (not published).
 */
let rig: PortRig;
let target: Published;
let neighbour: Published;
let other: Published;

beforeAll(async () => {
  rig = new PortRig();
  target = await rig.attach({
    mappings: ["tcp", "udp"].flatMap((protocol) => [
      { hostPort: 8080, containerPort: 80, protocol },
      { hostPort: 8081, containerPort: 81, protocol, hostIP: "127.0.0.1" },
    ]),
  });
  neighbour = await rig.attach();
  other = await rig.attach({ network: "net2" });
  await rig.serve(target.container, "target", [80, 81, 82]);
});

afterAll(async () => {
  await rig.close();
});

const gateway4 = "10.1.0.1";
const gateway6 = "fd00:1::1";
const lan4 = "192.0.2.1";
const lan6 = "2001:db8::1";
const refused = "ECONNREFUSED";

const saw = (address: string) => `target sees ${address}`;

/** Each as `PROTOCOL ADDRESS PORT`, both protocols for each of `targets`. */
async function reach(
  from: TestNamespace,
  targets: Readonly<Record<string, string>>,
): Promise<Readonly<Record<string, string>>> {
  const names = Object.keys(targets).flatMap((target) => [`tcp ${target}`, `udp ${target}`]);
  const questions = names.map((name): Question => {
    const [protocol, to = "", port] = name.split(" ");
    return { protocol: protocol === "udp" ? "udp" : "tcp", to, port: Number(port) };
  });
  const answers = await ask(from, questions);
  return Object.fromEntries(names.map((name, index) => [name, answers[index] ?? ""]));
}

async function expectReach(from: TestNamespace, targets: Readonly<Record<string, string>>): Promise<void> {
  const expected = Object.entries(targets).flatMap(([target, answer]) => [
    [`tcp ${target}`, answer],
    [`udp ${target}`, answer],
  ]);
  expect(await reach(from, targets)).toEqual(Object.fromEntries(expected));
}

describe("a published port", () => {
  it("is reached from the LAN, which the container sees as it is", async () => {
    await expectReach(rig.lan, {
      [`${lan4} 8080`]: saw("192.0.2.2"),
      [`${lan6} 8080`]: saw("2001:db8::2"),
    });
  });

  it("is reached from the host by every address of it", async () => {
    await expectReach(rig.namespace, {
      "127.0.0.1 8080": saw(gateway4),
      "127.1.2.3 8080": saw(gateway4),
      [`${lan4} 8080`]: saw(lan4),
      [`${gateway4} 8080`]: saw(gateway4),
      [`${lan6} 8080`]: saw(lan6),
      [`${gateway6} 8080`]: saw(gateway6),
    });
  });

  it("is reached from the container itself, from its neighbours and from another network", async () => {
    const targets = {
      [`${lan4} 8080`]: saw(gateway4),
      [`${gateway4} 8080`]: saw(gateway4),
      [`${lan6} 8080`]: saw(gateway6),
      [`${gateway6} 8080`]: saw(gateway6),
    };
    await expectReach(target.container, targets);
    await expectReach(neighbour.container, targets);
    // The network's own masquerading.
    await expectReach(other.container, { [`${lan4} 8080`]: saw(gateway4), [`${lan6} 8080`]: saw(gateway6) });
  });

  it("is refused at once by ::1 and by link-local addresses, where no answer could come from", async () => {
    await expectReach(rig.namespace, { "::1 8080": refused });
  });
});

describe("a port published on 127.0.0.1", () => {
  it("is reached from the host by that address alone", async () => {
    await expectReach(rig.namespace, { "127.0.0.1 8081": saw(gateway4), [`${lan4} 8081`]: refused });
  });

  it("is nothing to anybody else", async () => {
    for (const from of [rig.lan, other.container]) {
      await expectReach(from, { [`${lan4} 8081`]: refused, [`${lan6} 8081`]: refused });
    }
    await expectReach(neighbour.container, { [`${gateway4} 8081`]: refused, [`${lan4} 8081`]: refused });
    await expectReach(target.container, { [`${gateway4} 8081`]: refused });
  });
});

describe("a port that is not published", () => {
  it("is reached by no address of the host", async () => {
    for (const from of [rig.lan, rig.namespace, neighbour.container, other.container]) {
      await expectReach(from, { [`${lan4} 82`]: refused, [`${lan4} 80`]: refused, [`${lan6} 80`]: refused });
    }
  });
});

describe("packets to and from 127.0.0.1 that come from outside", () => {
  /** Gives up its own 127.0.0.1, and takes the host's way there. */
  const craft = (namespace: TestNamespace, via: string) => {
    namespace.run(
      `ip addr flush dev lo; ip route add 127.0.0.1/32 via ${via}; sysctl -qw net.ipv4.conf.all.route_localnet=1`,
    );
  };
  const mend = (namespace: TestNamespace) =>
    namespace.run(
      "ip route del 127.0.0.1/32; ip addr add 127.0.0.1/8 dev lo; ip -6 addr add ::1/128 dev lo nodad",
    );

  it("reach neither what is published there nor the host's own services", async () => {
    await rig.serve(rig.namespace, "host", [9999]);
    rig.namespace.run(
      "sysctl -qw net.ipv4.conf.all.rp_filter=0; sysctl -qw net.ipv4.conf.up0.route_localnet=1",
    );
    for (const [namespace, via] of [
      [rig.lan, lan4],
      [neighbour.container, gateway4],
    ] as const) {
      craft(namespace, via);
      await expectReach(namespace, {
        "127.0.0.1 8080": "silence",
        "127.0.0.1 8081": "silence",
        "127.0.0.1 9999": "silence",
      });
      mend(namespace);
    }
    // The same without the rule, so that the test is known to try.
    rig.namespace.run(
      "nft flush chain inet netctl loopback_prerouting; nft flush chain inet netctl input; nft flush chain inet netctl forward",
    );
    craft(rig.lan, lan4);
    const questions = [8081, 9999].map((port): Question => ({ protocol: "tcp", to: "127.0.0.1", port }));
    expect(await ask(rig.lan, questions)).toEqual([saw("192.0.2.2"), "host sees 192.0.2.2"]);
    mend(rig.lan);
    await rig.host.nftables.load("inet");
  });

  it("can't pose as the host", async () => {
    rig.lan.run("ip addr add 127.0.0.2/32 dev eth0; sysctl -qw net.ipv4.conf.all.route_localnet=1");
    const question = { protocol: "udp", to: lan4, port: 9999, from: "127.0.0.2" } as const;
    expect(await ask(rig.lan, [question])).toEqual(["silence"]);
    rig.lan.run("ip addr del 127.0.0.2/32 dev eth0");
  });
});

describe("a connection that 127.0.0.0/8 has", () => {
  /** Datagrams that got as far as a program, counted behind all of our rules. */
  const witness = (namespace: TestNamespace, rule: string) =>
    namespace.run(
      `nft 'table inet witness { chain input { type filter hook input priority 10; }; }'
       nft add rule inet witness input ${rule} counter`,
    );
  const counted = (namespace: TestNamespace) =>
    Number(/counter packets (\d+)/u.exec(namespace.run("nft list table inet witness"))?.[1]);

  it("takes no packets from outside, be it to the host's own service or to a published port", async () => {
    await rig.serve(rig.namespace, "host", [9998]);
    rig.namespace.run(
      "sysctl -qw net.ipv4.conf.all.rp_filter=0; sysctl -qw net.ipv4.conf.up0.rp_filter=0; sysctl -qw net.ipv4.conf.up0.route_localnet=1",
    );
    witness(rig.namespace, "iifname up0 udp dport 9998");
    witness(target.container, "udp dport 80");
    const questions: readonly Question[] = [
      { protocol: "udp", to: "127.0.0.1", port: 9998, from: "127.0.0.2", fromPort: 5555 },
      { protocol: "udp", to: "127.0.0.1", port: 8080, from: "127.0.0.2", fromPort: 5556 },
    ];
    expect(await ask(rig.namespace, questions)).toEqual(["host sees 127.0.0.2", saw(gateway4)]);
    expect(counted(target.container)).toBe(1);

    rig.lan.run(
      `ip addr flush dev lo; ip addr add 127.0.0.2/32 dev eth0; ip route add 127.0.0.1/32 via ${lan4}
       sysctl -qw net.ipv4.conf.all.route_localnet=1`,
    );
    expect(await ask(rig.lan, questions)).toEqual(["silence", "silence"]);
    expect([counted(rig.namespace), counted(target.container)]).toEqual([0, 1]);

    // The same without the rules, so that the test is known to try.
    rig.namespace.run("nft flush chain inet netctl input; nft flush chain inet netctl forward");
    await ask(rig.lan, questions);
    expect([counted(rig.namespace), counted(target.container)]).toEqual([1, 2]);

    rig.lan.run(
      "ip addr del 127.0.0.2/32 dev eth0; ip route del 127.0.0.1/32; ip addr add 127.0.0.1/8 dev lo",
    );
    for (const { path } of [rig.namespace, target.container]) {
      rig.namespace.run(`nsenter --net=${path} nft delete table inet witness`);
    }
    await rig.host.nftables.load("inet");
  });
});

describe("traffic through the host to the same port elsewhere", () => {
  it("goes where it was sent", async () => {
    await rig.serve(rig.lan, "lan", [8080]);
    await expectReach(other.container, { "192.0.2.2 8080": `lan sees ${lan4}` });
    await expectReach(neighbour.container, { [`${other.ip4} 8080`]: refused });
  });
});

describe("the container's own address", () => {
  it("is reached by whoever has a route to it, published or not, as with the reference: that is for a firewall", async () => {
    rig.lan.run(`ip route add 10.1.0.0/24 via ${lan4}; ip route add fd00:1::/64 via ${lan6}`);
    const { ip4, ip6 } = target;
    for (const [from, source4, source6] of [
      [rig.lan, "192.0.2.2", "2001:db8::2"],
      [neighbour.container, neighbour.ip4, neighbour.ip6],
    ] as const) {
      const targets = [80, 81, 82].flatMap((port) => [
        [`${ip4} ${port}`, saw(source4)],
        [`${ip6} ${port}`, saw(source6)],
      ]);
      await expectReach(from, Object.fromEntries(targets) as Record<string, string>);
    }
  });
});
