/** What is known of a plugin beside its fields. */
export interface PluginFacts {
  /** Makes an interface; comes after one that does; or answers with addresses, and stands in `ipam`. */
  readonly place: "interface" | "chained" | "ipam";
  /** Keys of `runtimeConfig` that it reads (CONVENTIONS.md of the CNI specification). */
  readonly capabilities: readonly string[];
  /** Of those, the ones without which it has nothing to do. */
  readonly needs?: readonly string[];
}

const interfaceWith = (...capabilities: string[]): PluginFacts => ({ place: "interface", capabilities });
const chainedWith = (...capabilities: string[]): PluginFacts => ({ place: "chained", capabilities });

/** Plugins of the suite and the reference plugins of the same names, and others that are often met. */
export const pluginFacts: ReadonlyMap<string, PluginFacts> = new Map(
  Object.entries({
    bridge: interfaceWith("mac"),
    macvlan: interfaceWith("mac"),
    ipvlan: interfaceWith(),
    vlan: interfaceWith(),
    ptp: interfaceWith("mac"),
    tap: interfaceWith("mac"),
    dummy: interfaceWith(),
    "host-device": interfaceWith("deviceID"),
    "overlay-vxlan": interfaceWith("mac", "ips"),
    loopback: interfaceWith(),
    host: interfaceWith(),
    none: interfaceWith(),
    firewall: chainedWith(),
    sbr: chainedWith(),
    vrf: chainedWith(),
    tuning: chainedWith("mac"),
    portmap: { ...chainedWith("portMappings"), needs: ["portMappings"] },
    bandwidth: { ...chainedWith("bandwidth"), needs: ["bandwidth"] },
    dns: { ...chainedWith("dns", "aliases") },
    "host-local": { place: "ipam", capabilities: ["ips", "ipRanges"] },
    static: { place: "ipam", capabilities: ["ips"] },
    dhcp: { place: "ipam", capabilities: [] },
  } satisfies Record<string, PluginFacts>),
);

/** Capabilities that have a meaning to somebody (CONVENTIONS.md of the CNI specification, "Dynamic Plugin specific fields"). */
export const knownCapabilities: readonly string[] = [
  "portMappings",
  "ipRanges",
  "bandwidth",
  "dns",
  "ips",
  "mac",
  "infinibandGUID",
  "deviceID",
  "aliases",
  "cgroupPath",
  "io.kubernetes.cri.pod-annotations",
];
