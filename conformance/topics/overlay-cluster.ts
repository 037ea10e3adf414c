import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { eventually, expect, expectEqual } from "#conformance/failure.ts";
import { expectNoReach, expectReach, OverlayHosts, withoutService } from "#conformance/overlay-host.ts";
import { readLink, readRoutes } from "#conformance/witness.ts";

const readme = "overlay-vxlan README";
const guide = "docs/overlay.md";

/** A container of the network on each of the two hosts, which reach each other. */
async function ends(hosts: OverlayHosts, ...flags: readonly string[]): Promise<[Attachment, Attachment]> {
  const config = await hosts.network("net-a", "--disable-dns", ...flags);
  const a = await hosts.attach(hosts.first, config);
  const b = await hosts.attach(hosts.second, config);
  expect(a.ip() !== b.ip(), `both hosts have given out ${a.ip()}`);
  await expectReach(a, b.ip());
  return [a, b];
}

/** How many routers are between them: a reply that was sent with 64 comes with less. */
async function hopsBetween(from: Attachment, to: string): Promise<number> {
  const text = await from.container.namespace.shell(`ping -n -c1 -W5 ${to}`);
  return 64 - Number(/ttl=(\d+)/.exec(text)?.[1]);
}

/** Two hosts, and an etcd between them. */
export const clusterCases: readonly Case[] = [
  // It waits longest: first, beside the others.
  {
    title: "without its etcd a network goes on: packets, ADD and DEL; STATUS is 51 after a while",
    source: `${guide}, When something fails; ${readme}, STATUS and CHECK`,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.pair(lab);
      const [a, b] = await ends(hosts);
      await lab.host.shell("kill -9 $(ss -Hltnp sport = 2379 | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p')");
      await expectReach(a, b.ip());
      const c = await hosts.attach(hosts.second, b.config);
      await expectReach(a, c.ip());
      (await c.del()).expectSilence();
      const isLimited = async () => {
        const { json } = await lab.call("STATUS", a.config);
        return json?.["code"] === 51;
      };
      expect(await eventually(isLimited, 60_000), "STATUS does not become 51");
      await expectReach(b, a.ip());
    },
  },
  {
    title: "containers of two hosts reach each other in both families, at full MTU, by VXLAN on port 4789",
    source: `${guide}; RFC 7348`,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.pair(lab);
      await lab.host.shell(
        "nft 'add table inet seen; add chain inet seen o { type filter hook output priority 300; }; add rule inet seen o udp dport 4789 counter'",
      );
      const [a, b] = await ends(hosts, "--ipv6");
      for (const family of [4, 6] as const) {
        await expectReach(a, b.ip(family));
        await expectReach(b, a.ip(family));
      }
      const mtu = (await readLink(a.container.namespace, "eth0"))?.mtu ?? 0;
      await a.container.namespace.shell(`ping -n -c1 -W5 -M do -s ${mtu - 28} ${b.ip()}`);
      const seen = await lab.host.shell("nft list chain inet seen o");
      expect(Number(/packets (\d+)/.exec(seen)?.[1]) > 0, `nothing left by port 4789: ${seen}`);
      await lab.host.shell("nft delete table inet seen");
    },
  },
  {
    title: "mode=l2: one segment over both hosts, no router between",
    source: `${guide}, One segment over all hosts`,
    needs: ["vxlan"],
    async run(lab) {
      const hosts = await OverlayHosts.pair(lab);
      const [a, b] = await ends(hosts, "-o", "mode=l2", "--subnet", "10.92.0.0/20");
      for (const { result } of [a, b])
        expect(result.ips[0]?.address.endsWith("/20") === true, "no prefix of 20");
      expectEqual(await hopsBetween(a, b.ip()), 0, "routers between");
      const [way] = await readRoutes(a.container.namespace);
      expectEqual(way?.gateway, "10.92.0.1", "gateway");
    },
  },
  {
    title: "-o encrypted: nothing leaves as VXLAN, and without the key's device nothing leaves at all",
    source: `${guide}, Encryption`,
    needs: ["vxlan", "wireguard"],
    async run(lab) {
      const hosts = await OverlayHosts.pair(lab);
      // VXLAN inside or outside of any IP header, on the wire.
      await lab.host.shell(
        "nft 'add table netdev seen; add chain netdev seen o { type filter hook egress device up0 priority 0; }; add rule netdev seen o udp dport 4789 counter'",
      );
      const [a, b] = await ends(hosts, "-o", "encrypted");
      expectEqual((await readLink(a.container.namespace, "eth0"))?.mtu, 1370, "MTU of eth0");
      // Of WireGuard in userspace the device goes with its process, in its own time.
      await lab.host.endProcesses();
      const isGone = async () =>
        (
          await lab.host.shell(
            "ip -br link | sed -n 's/^\\(nx[0-9a-z]*\\).*/\\1/p' | while read -r each; do ip link delete $each || true; done; ip -br link",
          )
        ).search(/^nx/m) < 0;
      expect(await eventually(isGone, 30_000), "the device stays");
      await expectNoReach(a, b.ip());
      const seen = await lab.host.shell("nft list chain netdev seen o");
      expectEqual(Number(/packets (\d+)/.exec(seen)?.[1]), 0, "clear packets on the wire");
      await lab.host.shell("nft delete table netdev seen");
      (await a.del(withoutService)).expectSilence();
      await lab.rebase();
    },
  },
];
