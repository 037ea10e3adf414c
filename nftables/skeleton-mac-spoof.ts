import type { Chain } from "./skeleton-chain.ts";

/** Frames that enter a checked port of a bridge with another source than the container's are dropped. Family bridge. */
export const macSpoofChains: readonly Chain[] = [
  {
    name: "prerouting",
    hook: "type filter hook prerouting priority -300; policy accept;",
    rules: ["iifname @mac_checked iifname . ether saddr != @mac_allowed drop"],
  },
];
