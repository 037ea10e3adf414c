import type { Plugin } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";

type Load = () => Promise<SuitePlugin>;

/** Plugins that own interfaces or rules: one request at a time for each attachment. */
const attaching: Readonly<Record<string, Load>> = {
  bridge: async () => (await import("#plugins/bridge/main.ts")).bridge,
  host: async () => (await import("#plugins/host/main.ts")).host,
  none: async () => (await import("#plugins/none/main.ts")).none,
  loopback: async () => (await import("#plugins/loopback/main.ts")).loopback,
  ptp: async () => (await import("#plugins/ptp/main.ts")).ptp,
  tap: async () => (await import("#plugins/tap/main.ts")).tap,
  "host-device": async () => (await import("#plugins/host-device/main.ts")).hostDevice,
  ipvlan: async () => (await import("#plugins/ipvlan/main.ts")).ipvlan,
  vlan: async () => (await import("#plugins/vlan/main.ts")).vlan,
  dummy: async () => (await import("#plugins/dummy/main.ts")).dummy,
  macvlan: async () => (await import("#plugins/macvlan/main.ts")).macvlan,
  "overlay-vxlan": async () => (await import("#plugins/overlay-vxlan/main.ts")).overlayVxlan,
  firewall: async () => (await import("#plugins/firewall/main.ts")).firewall,
  portmap: async () => (await import("#plugins/portmap/main.ts")).portmap,
  bandwidth: async () => (await import("#plugins/bandwidth/main.ts")).bandwidth,
  sbr: async () => (await import("#plugins/sbr/main.ts")).sbr,
  vrf: async () => (await import("#plugins/vrf/main.ts")).vrf,
  tuning: async () => (await import("#plugins/tuning/main.ts")).tuning,
  dns: async () => (await import("#plugins/dns/main.ts")).dns,
};

/** IPAM plugins are called from within another plugin's request and have locks of their own. */
const ipam: Readonly<Record<string, Load>> = {
  "host-local": async () => (await import("#plugins/host-local/main.ts")).hostLocal,
  dhcp: async () => (await import("#plugins/dhcp/main.ts")).dhcp,
  static: async () => (await import("#plugins/static/main.ts")).staticIpam,
};

const all: ReadonlyMap<string, Load> = new Map(Object.entries({ ...attaching, ...ipam }));

export const pluginNames: readonly string[] = [...all.keys()];

/** The plugin of that name; undefined if there is none. Its code is run up to here only now: a process needs but one. */
export async function loadPlugin(name: string): Promise<SuitePlugin | undefined> {
  return await all.get(name)?.();
}

/** Every plugin of the suite by its name. */
export async function loadPlugins(): Promise<ReadonlyMap<string, SuitePlugin>> {
  const loaded = await Promise.all([...all.values()].map((load) => load()));
  return new Map(loaded.map((plugin) => [plugin.name, plugin]));
}

export function isAttaching({ name }: Plugin<PluginHost>): boolean {
  return Object.hasOwn(attaching, name);
}
