/**
 * What a host that takes VXLAN needs. The kernel unpacks whatever comes to the port, from anybody, and what was inside
 * is then forwarded as if a host of the cluster had sent it; so only those hosts may send some, and no container, be it
 * to this host or, under its address, to another. Tunnel packets are not tracked: each is alone, and translating one
 * would break its checksum.
 *
 * Encrypted networks have link-local addresses at both ends, and those alone. The kernel itself sends to such an address
 * by no device but the one that encrypts, and takes a packet of such a tunnel from no other; these rules say it again.
 */
import type { Chain } from "./chain.ts";

const isVxlan = "udp dport @vxlan_ports";
const toEncrypted = "ip6 daddr fe80::/10";

/** For the beginning of the chain at the hook forward: no rule of the operator's lets a container send VXLAN. */
export const overlayForwardRules: readonly string[] = [
  `${isVxlan} jump overlay_passes`,
  "tcp flags & (syn | rst) == syn jump overlay_fits",
];

/**
 * For the same chain, behind what belongs to a connection: the packets of one that nobody answers, such as a log's
 * datagrams, are each looked up, and this is where those between a network's own containers go.
 */
export const overlayWaysRule = "iifname . oifname @network_ways accept";

/** Part "overlay", which only hosts of a cluster have. */
export const overlayChains: readonly Chain[] = [
  {
    name: "overlay_arrives",
    rules: [
      // Nearly all there is. The rest is for what comes otherwise, and for pairs that the agent has yet to write.
      "ip saddr . ip daddr @vtep_pairs4 iifname != @bridges notrack return",
      `${toEncrypted} iifname @encryptors notrack return`,
      `${toEncrypted} drop`,
      "ip6 saddr . ip6 daddr @vtep_pairs6 iifname != @bridges notrack return",
      "fib daddr type != local return",
      "iifname @bridges drop",
      "ip saddr @vteps4 notrack return",
      "ip6 saddr @vteps6 notrack return",
      "drop",
    ],
  },
  {
    // One look-up for whatever is no VXLAN.
    name: "overlay_prerouting",
    hook: "type filter hook prerouting priority -300; policy accept;",
    rules: [`${isVxlan} jump overlay_arrives`],
  },
  {
    name: "overlay_passes",
    rules: ["iifname @bridges ip daddr @vteps4 drop", "iifname @bridges ip6 daddr @vteps6 drop"],
  },
  {
    // A connection's packets have to fit into the tunnel, whatever MTU its ends believe in.
    name: "overlay_fits",
    rules: [
      "oifname @tunnels tcp option maxseg size set rt mtu",
      "iifname @tunnels tcp option maxseg size set rt mtu",
    ],
  },
  {
    name: "overlay_leaves",
    rules: [
      "ip daddr @vteps4 notrack return",
      "ip6 daddr @vteps6 notrack return",
      `${toEncrypted} oifname @encryptors notrack return`,
      `${toEncrypted} drop`,
    ],
  },
  {
    // What the host itself sends: forwarded packets never come here.
    name: "overlay_output",
    hook: "type filter hook output priority -300; policy accept;",
    rules: [`${isVxlan} jump overlay_leaves`],
  },
];
