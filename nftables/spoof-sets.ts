import { etherAddress, interfaceName, ipv4, ipv6, neighborTarget } from "./field.ts";
import type { SetDefinition } from "./set-definition.ts";

/** What `skeleton-spoof.ts` looks up, by port of a bridge. */
export const spoofSets = {
  /** Ports whose frames must have a source address of `macAllowed`. */
  macChecked: { family: "bridge", name: "mac_checked", key: [interfaceName], life: "attachment" },
  macAllowed: {
    family: "bridge",
    name: "mac_allowed",
    key: [interfaceName, etherAddress],
    life: "attachment",
  },
  /** Ports whose packets must have a source address of the next three. */
  ipChecked: { family: "bridge", name: "ip_checked", key: [interfaceName], life: "attachment" },
  ipAllowed4: { family: "bridge", name: "ip_allowed4", key: [interfaceName, ipv4], life: "attachment" },
  ipAllowed6: { family: "bridge", name: "ip_allowed6", key: [interfaceName, ipv6], life: "attachment" },
  /** What a neighbour advertisement may be about: the same as `ipAllowed6`. */
  neighborAllowed: {
    family: "bridge",
    name: "neighbor_allowed",
    key: [interfaceName, neighborTarget],
    life: "attachment",
  },
} as const satisfies Readonly<Record<string, SetDefinition>>;
