import type { Chain } from "./chain.ts";

/** Containers leave the host under one of its addresses; not towards their own subnet, nor to multicast. */
export const masqueradeChains: readonly Chain[] = [
  {
    name: "masquerade_from4",
    rules: [
      // Never forwarded, but seen here on its way through a bridge where bridge-nf-call-iptables is on.
      "ip daddr { 224.0.0.0/4, 255.255.255.255 } return",
      "ip saddr . ip daddr @same_subnet4 return",
      "snat ip to ip saddr map @snat4",
      "masquerade",
    ],
  },
  {
    name: "masquerade_from6",
    rules: [
      "ip6 daddr { fe80::/10, ff00::/8 } return",
      "ip6 saddr . ip6 daddr @same_subnet6 return",
      "snat ip6 to ip6 saddr map @snat6",
      "masquerade",
    ],
  },
];

/** For a chain of type nat at the hook postrouting. */
export const masqueradeRules: readonly string[] = [
  "ip saddr @masquerade4 goto masquerade_from4",
  "ip6 saddr @masquerade6 goto masquerade_from6",
];
