import type { CniResult } from "#cni/result.ts";
import { type IfName, ifNameProblem } from "#net/ifname.ts";
import { isRoutedTo } from "#nftables/network-policy.ts";
import type { PluginHost } from "#plugins/context.ts";

/**
 * The families in which the container's network is routed to, as the plugin that has made it has told the kernel
 * (`gatewayMode` of the bridge plugin): its ports are then opened instead of translated.
 * @throws {NetlinkError}
 */
export async function readRoutedFamilies(
  prevResult: CniResult,
  host: PluginHost,
): Promise<readonly (4 | 6)[]> {
  const routed = new Set<4 | 6>();
  for (const name of hostInterfaces(prevResult)) {
    for (const family of [4, 6] as const) {
      if (await isRoutedTo(host.nftables, family, name)) routed.add(family);
    }
  }
  return [...routed];
}

/** Interfaces of the host that the plugins before have named. */
export function hostInterfaces({ interfaces }: CniResult): readonly IfName[] {
  return interfaces.flatMap(({ name, sandbox }) => (sandbox || ifNameProblem(name) ? [] : [name as IfName]));
}
