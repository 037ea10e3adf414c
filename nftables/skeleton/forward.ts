/**
 * Who may reach a container by its own address, and whom it may reach. Everything is looked up by the interfaces that a
 * packet comes in and goes out by, the same number of times with one network or a thousand.
 *
 * The order matters. What a network may never do comes before everything that lets packets through: else a container
 * of an internal network would reach a port that another network has published, by its own gateway's address, as such
 * a packet is translated before it comes here; or would send its packets as part of a connection that a container of
 * another network has, under that one's address.
 *
 * Every packet of every connection pays for what stands here, so two parts are loaded when the first network needs
 * them: "guards", what a network may never do, and "policies", the rest. Where all networks have the reference's shape,
 * nothing is left but the operator's own chain.
 *
 * What follows from a published port is known by `ct status dnat`, so that there is no rule for each port, and a packet
 * that somebody routes to a container's own address is never taken for it.
 *
 * Nothing here accepts for good: a chain of somebody else's at the same hook may still drop.
 */

import type { OptionalPart } from "#nftables/set-definition.ts";
import type { Chain } from "./chain.ts";
import {
  knownConnectionRule,
  loopbackInputRules,
  loopbackTransitRule,
  newConnectionRules,
} from "./loopback.ts";
import { overlayForwardRules, overlayWaysRule } from "./overlay.ts";

const routedTo = (family: "ip" | "ip6", n: 4 | 6): Chain => ({
  name: `routed_to${n}`,
  rules: [
    `meta l4proto ${n === 4 ? "icmp" : "ipv6-icmp"} accept`,
    `${family} daddr . meta l4proto . th dport @routed_ports${n} accept`,
    `${family} daddr . meta l4proto . th dport @routed_port_ranges${n} accept`,
  ],
});

/** Internal networks, and the `ingressPolicy` of the plugin firewall. */
const guards: readonly string[] = [
  "iifname @internal iifname . oifname != @same_bridge drop",
  "oifname @internal iifname . oifname != @same_bridge drop",
  "iifname @ingress_peers oifname @ingress_peers jump between_peers",
];

/** Networks on which the host does not listen. */
const inputGuards: readonly string[] = [
  "meta nfproto ipv4 iifname @isolated4 drop",
  "meta nfproto ipv6 iifname @isolated6 drop",
];

const policies = (extras: ReadonlySet<OptionalPart>): readonly string[] => [
  knownConnectionRule,
  ...(extras.has("overlay") ? [overlayWaysRule] : []),
  ...newConnectionRules,
  "ct status dnat accept",
  "meta nfproto ipv4 oifname @routed4 jump routed_to4",
  "meta nfproto ipv6 oifname @routed6 jump routed_to6",
  "iifname . oifname @trusted accept",
  "iifname @isolated_networks oifname @bridges iifname . oifname != @same_bridge drop",
  "oifname @isolated_networks iifname @bridges iifname . oifname != @same_bridge drop",
  "iifname . oifname @icc_off drop",
  "iifname . oifname @same_bridge accept",
  "meta nfproto ipv4 oifname @protected4 drop",
  "meta nfproto ipv6 oifname @protected6 drop",
  "ip saddr @admitted4 accept",
  "ip6 saddr @admitted6 accept",
];

const betweenPeers: Chain = {
  name: "between_peers",
  rules: ["iifname . oifname != @ingress_same drop", "iifname . oifname @ingress_isolated drop"],
};

export const forwardChains = (extras: ReadonlySet<OptionalPart>): readonly Chain[] => [
  // For the operator: made once, and never touched again.
  { name: "user_forward", rules: [], isUsers: true },
  ...(extras.has("guards") ? [betweenPeers] : []),
  ...(extras.has("policies") ? [routedTo("ip", 4), routedTo("ip6", 6)] : []),
  {
    name: "forward",
    hook: "type filter hook forward priority 0; policy accept;",
    rules: [
      ...(extras.has("overlay") ? overlayForwardRules(extras) : []),
      "jump user_forward",
      ...(extras.has("guards") ? guards : []),
      ...(extras.has("policies") ? policies(extras) : [loopbackTransitRule]),
    ],
  },
  {
    name: "input",
    hook: "type filter hook input priority 0; policy accept;",
    rules: [...loopbackInputRules, ...(extras.has("guards") ? inputGuards : [])],
  },
];
