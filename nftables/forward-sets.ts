import { inetPort, inetPortRange, inetProtocol, interfaceName, ipv4, ipv6, mark } from "./field.ts";
import type { SetDefinition } from "./set-definition.ts";

/** What `skeleton-forward.ts` looks up. An interface is the one by which the host routes to a network's containers. */
export const forwardSets = {
  /** What holds for a network, as a number: another network that wants something else of the interface comes to know. */
  networkPolicies: {
    family: "inet",
    name: "network_policies",
    key: [interfaceName],
    value: [mark],
    life: "device",
  },
  /** Every interface of a network. */
  bridges: { family: "inet", name: "bridges", key: [interfaceName], life: "device" },
  /** INTERFACE . INTERFACE, the same twice. */
  sameBridge: { family: "inet", name: "same_bridge", key: [interfaceName, interfaceName], life: "device" },
  /** Nothing is forwarded in or out. */
  internal: { family: "inet", name: "internal", key: [interfaceName], life: "device", part: "guards" },
  /** Nothing to other networks or from them. */
  isolatedNetworks: {
    family: "inet",
    name: "isolated_networks",
    key: [interfaceName],
    life: "device",
    part: "policies",
  },
  /** INTERFACE . INTERFACE: containers don't reach each other by way of the host. */
  iccOff: {
    family: "inet",
    name: "icc_off",
    key: [interfaceName, interfaceName],
    life: "device",
    part: "policies",
  },
  /** No new connections to the containers' own addresses. */
  protected4: { family: "inet", name: "protected4", key: [interfaceName], life: "device", part: "policies" },
  protected6: { family: "inet", name: "protected6", key: [interfaceName], life: "device", part: "policies" },
  /** But to published ports, and by ICMP. */
  routed4: { family: "inet", name: "routed4", key: [interfaceName], life: "device", part: "policies" },
  routed6: { family: "inet", name: "routed6", key: [interfaceName], life: "device", part: "policies" },
  /** The host does not listen either. */
  isolated4: { family: "inet", name: "isolated4", key: [interfaceName], life: "device", part: "guards" },
  isolated6: { family: "inet", name: "isolated6", key: [interfaceName], life: "device", part: "guards" },
  /** FROM . INTERFACE: as if the network were not protected. */
  trusted: {
    family: "inet",
    name: "trusted",
    key: [interfaceName, interfaceName],
    life: "device",
    part: "policies",
  },

  /** Published ports of containers that are routed to. */
  routedPorts4: {
    family: "inet",
    name: "routed_ports4",
    key: [ipv4, inetProtocol, inetPort],
    life: "attachment",
  },
  routedPorts6: {
    family: "inet",
    name: "routed_ports6",
    key: [ipv6, inetProtocol, inetPort],
    life: "attachment",
  },
  routedPortRanges4: {
    family: "inet",
    name: "routed_port_ranges4",
    key: [ipv4, inetProtocol, inetPortRange],
    life: "attachment",
  },
  routedPortRanges6: {
    family: "inet",
    name: "routed_port_ranges6",
    key: [ipv6, inetProtocol, inetPortRange],
    life: "attachment",
  },
  /** What masqueraded containers leave as, where that is a fixed address. */
  snat4: { family: "inet", name: "snat4", key: [ipv4], value: [ipv4], life: "attachment" },
  snat6: { family: "inet", name: "snat6", key: [ipv6], value: [ipv6], life: "attachment" },

  /** The `ingressPolicy` of the plugin firewall, as a number. */
  ingressPolicies: {
    family: "inet",
    name: "ingress_policies",
    key: [interfaceName],
    value: [mark],
    life: "device",
  },
  /** Bridges that nothing goes between. */
  ingressPeers: {
    family: "inet",
    name: "ingress_peers",
    key: [interfaceName],
    life: "device",
    part: "guards",
  },
  ingressSame: { family: "inet", name: "ingress_same", key: [interfaceName, interfaceName], life: "device" },
  /** INTERFACE . INTERFACE: nor within. */
  ingressIsolated: {
    family: "inet",
    name: "ingress_isolated",
    key: [interfaceName, interfaceName],
    life: "device",
  },
  /** Containers that the plugin firewall lets out. */
  admitted4: { family: "inet", name: "admitted4", key: [ipv4], life: "attachment" },
  admitted6: { family: "inet", name: "admitted6", key: [ipv6], life: "attachment" },
} as const satisfies Readonly<Record<string, SetDefinition>>;
