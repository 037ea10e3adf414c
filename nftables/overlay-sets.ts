import { inetPort, interfaceIndex, interfaceName, ipv4, ipv6 } from "./field.ts";
import type { SetDefinition } from "./set-definition.ts";

/** VXLAN's own port (RFC 7348 section 5). */
export const vxlanPort = 4789;

/** What `skeleton/overlay.ts` looks up. The overlay's agent alone writes it; empty on a host that is in no cluster. */
export const overlaySets = {
  /** UDP ports on which this host takes VXLAN. */
  vxlanPorts: {
    family: "inet",
    name: "vxlan_ports",
    key: [inetPort],
    life: "host",
    part: "overlay",
    further: { part: "otherPort", isNeeded: ([port]) => port !== vxlanPort },
  },
  /** Underlay addresses of the cluster's hosts: who may send VXLAN to this one. */
  vteps4: { family: "inet", name: "vteps4", key: [ipv4], life: "host", part: "overlay" },
  vteps6: { family: "inet", name: "vteps6", key: [ipv6], life: "host", part: "overlay" },
  /** INTERFACE . FROM . TO . PORT, of another host's underlay address and this one's own: what most VXLAN comes by. */
  vxlanSources4: {
    family: "inet",
    name: "vxlan_sources4",
    key: [interfaceIndex, ipv4, ipv4, inetPort],
    life: "host",
    part: "overlay",
  },
  vxlanSources6: {
    family: "inet",
    name: "vxlan_sources6",
    key: [interfaceIndex, ipv6, ipv6, inetPort],
    life: "host",
    part: "overlay",
  },
  /** Devices that encrypt: what VXLAN of encrypted networks goes by, and nothing else. */
  encryptors: { family: "inet", name: "encryptors", key: [interfaceName], life: "host", part: "overlay" },
  /** Tunnels to the other hosts. */
  tunnels: { family: "inet", name: "tunnels", key: [interfaceName], life: "host", part: "overlay" },
  /** INTERFACE . INTERFACE: ways within one network, by which its containers always reach each other. */
  networkWays: {
    family: "inet",
    name: "network_ways",
    key: [interfaceName, interfaceName],
    life: "host",
    part: "overlay",
  },
} as const satisfies Readonly<Record<string, SetDefinition>>;
