import type { NetworkConfig } from "#cni/plugin.ts";
import { LeaseStore } from "#ipam/lease-store.ts";
import type { PluginHost } from "#plugins/context.ts";

/** The part of the host that handing out addresses needs: no interface, no namespace. */
export type HostLocalHost = Pick<
  PluginHost,
  "hostNamespace" | "identifyNamespace" | "directories" | "bootId" | "log"
>;

export function openLeases(host: HostLocalHost, config: NetworkConfig, dataDir: string): LeaseStore {
  return new LeaseStore({ dataDir, network: config.name, bootId: host.bootId });
}
