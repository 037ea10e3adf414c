/**
 * Published ports. What is sent to an address of the host is looked up by (address, protocol, port), then by
 * (protocol, port), and goes on to the container. `fib daddr type local` keeps the look-up off packets that only pass
 * through. Four look-ups at most, on the first packet of a connection.
 *
 * Answers have to come back through the host, to be translated back. They would not where the asker is a neighbour of
 * the container or the container itself, and could not where it is 127.0.0.1: those connections get an address of the
 * host as their source (`hairpin`).
 */
import type { Chain } from "./chain.ts";

const published = (family: "ip" | "ip6", n: 4 | 6): readonly string[] => [
  `dnat ${family} to ${family} daddr . meta l4proto . th dport map @host_ports${n}`,
  `dnat ${family} to meta l4proto . th dport map @ports${n}`,
  `dnat ${family} to ${family} daddr . meta l4proto . th dport map @host_port_ranges${n}`,
  `dnat ${family} to meta l4proto . th dport map @port_ranges${n}`,
];

const toLocal: readonly string[] = [
  "fib daddr type local meta nfproto ipv4 meta l4proto { tcp, udp, sctp } goto published4",
  "fib daddr type local meta nfproto ipv6 meta l4proto { tcp, udp, sctp } goto published6",
];

export const portChains: readonly Chain[] = [
  { name: "published4", rules: published("ip", 4) },
  {
    name: "published6",
    rules: [
      // An answer to ::1 is not taken from outside, and one to a link-local address not forwarded: better refused
      // than never answered.
      "ip6 daddr { ::1, fe80::/10 } return",
      ...published("ip6", 6),
    ],
  },
  {
    name: "nat_prerouting",
    hook: "type nat hook prerouting priority -100; policy accept;",
    rules: toLocal,
  },
  { name: "nat_output", hook: "type nat hook output priority -100; policy accept;", rules: toLocal },
  {
    name: "hairpin_to4",
    rules: [
      "ip saddr 127.0.0.0/8 masquerade",
      "ip saddr . ip daddr @same_subnet4 masquerade",
      "ip saddr . ip daddr @hairpin_self4 masquerade",
      "ip daddr @hairpin_all4 masquerade",
    ],
  },
  {
    name: "hairpin_to6",
    rules: [
      "ip6 saddr . ip6 daddr @same_subnet6 masquerade",
      "ip6 saddr . ip6 daddr @hairpin_self6 masquerade",
      "ip6 daddr @hairpin_all6 masquerade",
    ],
  },
];

/** For a chain of type nat at the hook postrouting, before any other masquerading. */
export const hairpinRules: readonly string[] = [
  "ct status dnat ip daddr @hairpin4 jump hairpin_to4",
  "ct status dnat ip6 daddr @hairpin6 jump hairpin_to6",
];
