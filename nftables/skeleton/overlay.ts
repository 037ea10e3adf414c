/**
 * What a host that takes VXLAN needs. The kernel unpacks whatever comes to the port, from anybody, and what was inside
 * is then forwarded as if a host of the cluster had sent it; so only those hosts may send some, and no container, be it
 * to this host or, under its address, to another. Tunnel packets are not tracked: each is alone, and translating one
 * would break its checksum.
 *
 * Encrypted networks have link-local addresses at both ends, and those alone. The kernel itself sends to such an address
 * by no device but the one that encrypts, and takes a packet of such a tunnel from no other; these rules say it again.
 */
import { vxlanPort } from "#nftables/overlay-sets.ts";
import type { OptionalPart } from "#nftables/set-definition.ts";
import type { Chain } from "./chain.ts";
import { isFromElsewhere } from "./loopback.ts";

/**
 * What every packet of the host is asked. The destination port, compared as it stands, with no look at the protocol: a
 * tenth of what a look-up costs. A cluster on another port has part "otherPort", and pays for the look-up. Either way
 * the chains behind it ask whether it is VXLAN of ours.
 */
const mayBeVxlan = (extras: ReadonlySet<OptionalPart>) =>
  extras.has("otherPort") ? "udp dport @vxlan_ports" : `th dport ${vxlanPort}`;

const isNoVxlan: readonly string[] = ["meta l4proto != udp return", "udp dport != @vxlan_ports return"];
const toEncrypted = "ip6 daddr fe80::/10";

/** For the beginning of the chain at the hook forward: no rule of the operator's lets a container send VXLAN. */
export const overlayForwardRules = (extras: ReadonlySet<OptionalPart>): readonly string[] => [
  `${mayBeVxlan(extras)} jump overlay_passes`,
  "tcp flags & (syn | rst) == syn jump overlay_fits",
];

/**
 * For the same chain, behind what is known to belong to a connection: the packets of one that nobody answers, such as a
 * log's datagrams, are each looked up, and this is where those between a network's own containers go.
 */
export const overlayWaysRule = `${isFromElsewhere} iifname . oifname @network_ways accept`;

/** Part "overlay", which only hosts of a cluster have. */
export const overlayChains = (extras: ReadonlySet<OptionalPart>): readonly Chain[] => [
  {
    name: "overlay_arrives",
    rules: [
      // Nearly all there is, by one look-up. The rest is for what comes otherwise: by IPv6, from hosts that the agent has
      // yet to write, by other devices than the one with the address, and by a bridge that containers may be behind.
      "iif . ip saddr . ip daddr . udp dport @vxlan_sources4 notrack return",
      ...isNoVxlan,
      `${toEncrypted} iifname @encryptors notrack return`,
      `${toEncrypted} drop`,
      "iif . ip6 saddr . ip6 daddr . udp dport @vxlan_sources6 notrack return",
      "fib daddr type != local return",
      "iifname @bridges drop",
      "ip saddr @vteps4 notrack return",
      "ip6 saddr @vteps6 notrack return",
      "drop",
    ],
  },
  {
    // What goes into the tunnels and comes out of them passes here, too.
    name: "overlay_prerouting",
    hook: "type filter hook prerouting priority -300; policy accept;",
    rules: [`${mayBeVxlan(extras)} jump overlay_arrives`],
  },
  {
    name: "overlay_passes",
    rules: [
      "udp dport @vxlan_ports iifname @bridges ip daddr @vteps4 drop",
      "udp dport @vxlan_ports iifname @bridges ip6 daddr @vteps6 drop",
    ],
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
      // To whomever: nobody else's answer would be let in.
      "meta nfproto ipv4 udp dport @vxlan_ports notrack return",
      ...isNoVxlan,
      "ip6 daddr @vteps6 notrack return",
      `${toEncrypted} oifname @encryptors notrack return`,
      `${toEncrypted} drop`,
    ],
  },
  {
    // What the host itself sends: forwarded packets never come here.
    name: "overlay_output",
    hook: "type filter hook output priority -300; policy accept;",
    rules: [`${mayBeVxlan(extras)} jump overlay_leaves`],
  },
];
