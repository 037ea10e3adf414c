/**
 * Publishing on 127.0.0.1 needs route_localnet on the container's bridge, which lets the kernel take packets with such
 * addresses from there. Whatever comes from outside with one is dropped. There is no chain before connection tracking
 * for it, as every packet of every connection would pass that one too; each packet comes by at least one of these:
 *
 * - what begins a connection: at nat prerouting, before it is translated and can become one;
 * - what goes to a program of the host, also as part of a connection that is there already, or of none: at input;
 * - what goes on to a container, as part of a connection that 127.0.0.1 has to a published port: at forward.
 */
import type { Chain } from "./chain.ts";

/** A VRF device stands for `lo` to the programs inside. */
const fromOutside = 'iifname != "lo" meta iifkind != "vrf"';

/**
 * For a chain at the hook forward, where what the host itself sends never comes. Each packet pays for this rule, so it
 * asks for one byte without asking for the family: in IPv4 it is the source's first, in IPv6 its fifth, and then the
 * other chain decides.
 */
export const loopbackTransitRule = "@nh,96,8 127 jump from_loopback";

/** For the same chain, and with the same look at one byte: not from 127.0.0.0/8, nor from some other IPv6 addresses. */
export const isFromElsewhere = "@nh,96,8 != 127";

/** Accepts what belongs to a connection, all of it but a few packets. */
export const knownConnectionRule = `ct status seen-reply,dnat ${isFromElsewhere} accept`;

/** The few. */
export const newConnectionRules: readonly string[] = [
  "jump from_loopback",
  "ct state established,related accept",
];

/** For a chain at the hook input. */
export const loopbackInputRules: readonly string[] = [
  `ip daddr 127.0.0.0/8 ${fromOutside} jump to_loopback`,
  `ip saddr 127.0.0.0/8 ${fromOutside} drop`,
];

export const loopbackChains: readonly Chain[] = [
  {
    // Of type nat, which sees the first packet of a connection alone; before everybody else's of that type.
    name: "loopback_prerouting",
    hook: "type nat hook prerouting priority -150; policy accept;",
    rules: [`ip daddr 127.0.0.0/8 ${fromOutside} drop`, `ip saddr 127.0.0.0/8 ${fromOutside} drop`],
  },
  { name: "from_loopback", rules: ["ip saddr 127.0.0.0/8 drop"] },
  {
    name: "to_loopback",
    rules: [
      // A container's answer to 127.0.0.1, which was sent to an address of the host and is translated back by now.
      "ct direction reply ct status snat return",
      "drop",
    ],
  },
];
