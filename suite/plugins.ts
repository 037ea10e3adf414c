import type { Plugin } from "#cni/plugin.ts";
import { bridge } from "#plugins/bridge/main.ts";
import type { PluginHost } from "#plugins/context.ts";
import { host } from "#plugins/host/main.ts";
import { hostLocal } from "#plugins/host-local/main.ts";
import { loopback } from "#plugins/loopback/main.ts";
import { none } from "#plugins/none/main.ts";
import { portmap } from "#plugins/portmap/main.ts";
import { staticIpam } from "#plugins/static/main.ts";

/** Plugins that own interfaces or rules: one request at a time for each attachment. */
const attaching: readonly Plugin<PluginHost>[] = [bridge, host, none, loopback, portmap];

/** IPAM plugins are called from within another plugin's request and have locks of their own. */
const ipam: readonly Plugin<PluginHost>[] = [hostLocal, staticIpam];

/** Every plugin of the suite by its name. */
export const plugins: ReadonlyMap<string, Plugin<PluginHost>> = new Map(
  [...attaching, ...ipam].map((plugin) => [plugin.name, plugin]),
);

export function isAttaching(plugin: Plugin<PluginHost>): boolean {
  return attaching.includes(plugin);
}
