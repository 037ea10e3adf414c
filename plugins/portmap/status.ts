import type { StatusRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { parsePortmapConfig } from "./config.ts";

/** @throws {CniError} 7 for the configuration; 50 where nftables can't be used */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  parsePortmapConfig(request.config);
  await host.nftables.usable();
}
