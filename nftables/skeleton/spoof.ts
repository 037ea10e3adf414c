/**
 * What enters a checked port of a bridge under a name that is not the container's own is dropped: frames with another
 * source MAC address, and on ports that are checked further, packets with another source IP address, ARP that speaks
 * for another address, and neighbour advertisements about one. All of it before the frame goes anywhere, to the host
 * neither. Family bridge.
 */
import type { Chain } from "./chain.ts";

export const spoofChains: readonly Chain[] = [
  {
    name: "ip_spoof4",
    rules: [
      "iifname . ip saddr @ip_allowed4 return",
      // Who asks for an address by DHCP has none yet.
      "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 return",
      "drop",
    ],
  },
  {
    name: "arp_spoof",
    rules: [
      "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ip @ip_allowed4 return",
      // Asks whether an address is free (RFC 5227 section 1.1), and tells nobody anything.
      "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp saddr ip 0.0.0.0 arp operation request return",
      "drop",
    ],
  },
  {
    name: "ip_spoof6",
    rules: [
      "icmpv6 type { nd-router-advert, nd-redirect } drop",
      "icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @neighbor_allowed drop",
      "iifname . ip6 saddr @ip_allowed6 return",
      // Asks whether an address is free (RFC 4862 section 5.4.2), or which multicast groups there are.
      "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } return",
      "drop",
    ],
  },
  {
    name: "ip_spoof",
    rules: [
      "ether type ip goto ip_spoof4",
      "ether type arp goto arp_spoof",
      "ether type ip6 goto ip_spoof6",
      // VLAN tags among them, which would hide what is inside.
      "drop",
    ],
  },
  {
    name: "prerouting",
    hook: "type filter hook prerouting priority -300; policy accept;",
    rules: [
      "iifname @mac_checked iifname . ether saddr != @mac_allowed drop",
      "iifname @ip_checked jump ip_spoof",
    ],
  },
];
