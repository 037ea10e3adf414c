import { Namespace } from "./namespace.ts";

/** What a case may need of the machine, and how to see whether it is there: a command that must succeed. */
const probes = {
  "bridge VLAN filtering": "ip link add p0 type bridge vlan_filtering 1",
  "bridge port isolation":
    "ip link add p1 type bridge && ip link add p2 type dummy 2>/dev/null || ip link add p2 type veth peer name p3; ip link set p2 master p1 && bridge link set dev p2 isolated on",
  "nftables bridge family":
    "nft 'add table bridge p; add chain bridge p c { type filter hook prerouting priority -300; }; add rule bridge p c iifname \"x\" ether saddr != 02:00:00:00:00:01 drop'",
  "nftables masquerade":
    "nft 'add table inet q; add chain inet q c { type nat hook postrouting priority 100; }; add rule inet q c ip saddr 192.0.2.1 masquerade'",
  iptables: "iptables -t nat -A POSTROUTING -s 192.0.2.1 -m comment --comment probe -j MASQUERADE",
  ip6tables: "ip6tables -t nat -A POSTROUTING -s 2001:db8::1 -m comment --comment probe -j MASQUERADE",
  ifb: "ip link add probe type ifb",
  htb: "ip link add p4 type veth peer name p5; tc qdisc add dev p4 root htb",
  vrf: "ip link add p9 type vrf table 100",
  macvlan: "ip link add p6 type veth peer name p7; ip link add link p6 name p8 type macvlan",
  "8021q": "ip link add p9 type veth peer name p10; ip link add link p9 name p11 type vlan id 5",
  ipvlan: "ip link add p12 type veth peer name p13; ip link add link p12 name p14 type ipvlan",
  dummy: "ip link add p15 type dummy",
  vxlan: "ip link add p16 type vxlan id 9 dstport 4789 local 127.0.0.1",
  wireguard: "ip link add p17 type wireguard || command -v wireguard-go",
  IPv6: "ip link set lo up && ip -6 addr add 2001:db8::1/128 dev lo",
  "tap device": "ip tuntap add mode tap probe",
  tmpfs: "unshare --mount sh -c 'mount -t tmpfs -o size=64k conformance /mnt'",
} as const;

export type KernelFeature = keyof typeof probes;

/** Tries every probe in a namespace of its own, as they use the same names. The answer maps what is lacking to the tool's own words. */
export async function missingFeatures(): Promise<ReadonlyMap<KernelFeature, string>> {
  const missing = new Map<KernelFeature, string>();
  for (const [feature, script] of Object.entries(probes)) {
    const namespace = await Namespace.create("probe");
    try {
      const completed = await namespace.enter("sh", ["-c", script]);
      if (completed.exitCode === 0) continue;
      const said = completed.stderr.trim().split("\n").at(-1) ?? "";
      missing.set(feature as KernelFeature, said.replace(/^(RTNETLINK answers|Error): /, ""));
    } finally {
      await namespace.remove();
    }
  }
  return missing;
}
