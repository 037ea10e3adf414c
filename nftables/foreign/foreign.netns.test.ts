import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { Nft } from "#nftables/nft.ts";
import { PortRig, type Published } from "#testing/port-rig.ts";
import { testWith } from "#testing/requires.ts";
import { ask } from "#testing/traffic.ts";
import { describeDrop } from "./describe-drop.ts";
import { findDrops } from "./find-drops.ts";
import { readForeignFirewalls } from "./read-firewalls.ts";

let rig: PortRig;
let target: Published;

beforeAll(async () => {
  rig = new PortRig();
  target = await rig.attach({
    containerId: "target",
    mappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }],
  });
  await rig.serve(target.container, "target", [80]);
  await rig.serve(rig.lan, "lan", [7]);
});
afterAll(() => rig.close());
afterEach(() => {
  rig.namespace.run(
    "for t in $(nft list tables | sed 's/table //' | tr ' ' '/' | grep -v '/netctl$'); do nft delete table $(echo $t | tr '/' ' '); done",
  );
  rig.namespace.run("iptables-legacy -F 2>/dev/null && iptables-legacy -P FORWARD ACCEPT || true");
});

/** What packets find: out to the LAN, and in to the published port. */
async function traffic(): Promise<{ readonly outgoing: boolean; readonly published: boolean }> {
  const [out] = await ask(target.container, [{ protocol: "tcp", to: "192.0.2.2", port: 7 }]);
  const [into] = await ask(rig.lan, [{ protocol: "tcp", to: "192.0.2.1", port: 8080 }]);
  return { outgoing: out === "lan sees 192.0.2.1", published: into === "target sees 192.0.2.2" };
}

async function drops() {
  const listing = await new Nft({ namespacePath: rig.namespace.path }).listRuleset();
  const legacy = rig.namespace.run("cat /proc/net/ip_tables_names 2>/dev/null || true");
  const { tables, problems } = await readForeignFirewalls(
    listing,
    { 4: legacy.split("\n").filter(Boolean), 6: [] },
    { namespacePath: rig.namespace.path },
  );
  expect(problems).toEqual([]);
  const found = findDrops(
    tables,
    {
      bridge: "br-net1",
      subnets: [parseCidr("10.1.0.0/24"), parseCidr("fd00:1::/64")],
      published: [{ protocol: "tcp", hostPort: 8080, container: parseIp(target.ip4), containerPort: 80 }],
      hasOutside: true,
      filtersFrames: false,
    },
    { 4: "up0", 6: "up0" },
  );
  return found.map((each) => ({ ...describeDrop(each, "br-net1"), traffic: each.traffic }));
}

/** After their documentation: chains, order and conditions as they make them, without what only logs. */
const ufw = `iptables-restore <<'END'
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-logging-forward - [0:0]
:ufw-before-forward - [0:0]
:ufw-user-forward - [0:0]
:ufw-after-forward - [0:0]
:ufw-reject-forward - [0:0]
-A FORWARD -j ufw-before-logging-forward
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-after-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp --icmp-type echo-request -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
COMMIT
END`;
const firewalld = `nft -f - <<'END'
table inet firewalld {
  chain mangle_PREROUTING {
    type filter hook prerouting priority -290; policy accept;
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject with icmpv6 type addr-unreachable
    jump filter_FORWARD_POLICIES
    reject with icmpx type admin-prohibited
  }
  chain filter_FORWARD_POLICIES {
    iifname "up0" oifname "up0" jump filter_FWD_public
    iifname "up0" jump filter_FWD_public
    jump filter_FWD_public
    reject with icmpx type admin-prohibited
  }
  chain filter_FWD_public { jump filter_FWD_public_allow; }
  chain filter_FWD_public_allow { oifname "up0" ip daddr 203.0.113.0/24 accept; }
}
END`;
const docker = `iptables-restore <<'END'
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
END`;
const dropPolicy = (extra = "") =>
  `nft -f - <<'END'
table inet filter {
  set trusted { type ifname; elements = { "br-net1", "wg0" }; }
  chain forward { type filter hook forward priority 0; policy drop; ${extra} }
}
END`;

interface Named {
  readonly script: string;
  readonly expected: { readonly outgoing: boolean; readonly published: boolean };
  readonly where: string;
  readonly remedy: string;
}

async function expectNamed({ script, expected, where, remedy }: Named): Promise<void> {
  rig.namespace.run(script);
  expect(await traffic()).toEqual(expected);
  const found = (await drops()).filter(({ isMinor }) => !isMinor);
  expect(found.map(({ evidence }) => evidence)).toEqual([expect.stringContaining(where)]);
  expect(found[0]?.remedy).toContain(remedy);
  const dropped = found.flatMap((each) => each.traffic);
  expect({
    outgoing: !dropped.includes("outgoing"),
    published: !dropped.includes("published"),
  }).toEqual(expected);
  // Those of a firewall with a configuration of its own can't be tried here.
  if (/^(?:nft insert|iptables)/u.test(remedy) && where.includes("forward,")) {
    rig.namespace.run(found[0]?.remedy ?? "");
    expect(await traffic()).toEqual({ outgoing: true, published: true });
    expect((await drops()).filter(({ isMinor }) => !isMinor)).toEqual([]);
  }
}

describe("a foreign firewall", () => {
  it.each([
    {
      name: "ufw",
      script: ufw,
      expected: { outgoing: false, published: false },
      where: "table ip filter, chain FORWARD (hook forward, priority 0, policy drop) of ufw drops",
      remedy: "ufw route allow in on br-net1 && ufw route allow out on br-net1",
    },
    {
      name: "firewalld",
      script: firewalld,
      expected: { outgoing: false, published: true },
      where:
        "table inet firewalld, chain filter_FORWARD (hook forward, priority 10, policy accept) of firewalld",
      remedy: "firewall-cmd --permanent --zone=trusted --add-interface=br-net1 && firewall-cmd --reload",
    },
    {
      name: "docker",
      script: docker,
      expected: { outgoing: false, published: false },
      where: "table ip filter, chain FORWARD (hook forward, priority 0, policy drop) of docker drops",
      remedy: "iptables -I DOCKER-USER -i br-net1 -j ACCEPT",
    },
    {
      name: "a policy of drop",
      script: dropPolicy(),
      expected: { outgoing: false, published: false },
      where: "table inet filter, chain forward (hook forward, priority 0, policy drop) drops",
      remedy: "nft insert rule inet filter forward iifname br-net1 accept",
    },
    {
      name: "a rule before our chains",
      script:
        "nft add table ip raw2; nft add chain ip raw2 pre '{ type filter hook prerouting priority -300; }'; nft add rule ip raw2 pre tcp dport 8000-9000 drop",
      expected: { outgoing: true, published: false },
      where: "table ip raw2, chain pre (hook prerouting, priority -300, policy accept) drops",
      remedy: "nft insert rule ip raw2 pre iifname br-net1 accept",
    },
  ])("$name is named with chain, hook, priority, policy and remedy", expectNamed);

  testWith(["iptables-legacy"], "iptables-legacy is named as well", async () => {
    await expectNamed({
      script:
        "iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
      expected: { outgoing: false, published: false },
      where: "iptables-legacy table ip filter, chain FORWARD (hook forward, priority 0, policy drop) drops",
      remedy: "iptables-legacy -t filter -I FORWARD -i br-net1 -j ACCEPT",
    });
  });

  it.each([
    [
      "an accepting chain",
      "nft add table inet f; nft add chain inet f c '{ type filter hook forward priority 0; }'",
    ],
    [
      "one that accepts our bridge by a set",
      dropPolicy(
        "ct state vmap { established : accept, related : accept, invalid : drop }; iifname @trusted accept; ct status dnat accept;",
      ),
    ],
    [
      "one that drops other traffic",
      dropPolicy('oifname "br-*" accept; iifname { "br-net1", "x" } accept; ip saddr 10.9.0.0/16 drop;'),
    ],
    ["a chain of type nat", "iptables -t nat -N X; iptables -t nat -A PREROUTING -j X"],
  ])("%s is left out", async (_name, script) => {
    rig.namespace.run(script);
    expect(await traffic()).toEqual({ outgoing: true, published: true });
    expect((await drops()).filter(({ isMinor }) => !isMinor)).toEqual([]);
  });

  it("is said to drop with less certainty where a rule before can't be told", async () => {
    rig.namespace.run(dropPolicy("meta cpu 999 accept;"));
    const [found] = await drops();
    expect(found).toMatchObject({ isCertain: false });
    expect(found?.evidence).toContain("seems to drop");
  });
});
