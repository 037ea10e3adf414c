/**
 * What a host that takes VXLAN needs. The kernel unpacks whatever comes to the port, from anybody, and what was inside
 * is then forwarded as if a host of the cluster had sent it; so only those hosts may send some, and no container, be it
 * to this host or, under its address, to another. Tunnel packets are not tracked: each is alone, and translating one
 * would break its checksum.
 */
import type { Chain } from "./skeleton-chain.ts";

/** First, as almost every packet is something else. */
const onlyVxlan: readonly string[] = ["meta l4proto != udp accept", "udp dport != @vxlan_ports accept"];

/** A connection's packets have to fit into the tunnel, whatever MTU its ends believe in. */
const clamp = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu";

export const overlayChains: readonly Chain[] = [
  {
    name: "overlay_prerouting",
    hook: "type filter hook prerouting priority -301; policy accept;",
    rules: [
      ...onlyVxlan,
      "fib daddr type != local accept",
      "iifname @bridges drop",
      "ip saddr @vteps4 notrack accept",
      "ip6 saddr @vteps6 notrack accept",
      "drop",
    ],
  },
  {
    name: "overlay_output",
    hook: "type filter hook output priority -301; policy accept;",
    rules: [...onlyVxlan, "ip daddr @vteps4 notrack", "ip6 daddr @vteps6 notrack"],
  },
  {
    name: "overlay_forward",
    hook: "type filter hook forward priority -150; policy accept;",
    rules: [
      "iifname @bridges udp dport @vxlan_ports ip daddr @vteps4 drop",
      "iifname @bridges udp dport @vxlan_ports ip6 daddr @vteps6 drop",
      `oifname @tunnels ${clamp}`,
      `iifname @tunnels ${clamp}`,
    ],
  },
];
