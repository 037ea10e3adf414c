import type { StatusRequest } from "#cni/plugin.ts";
import { requireVrf } from "#kernel/vrf.ts";
import type { PluginHost } from "#plugins/context.ts";
import { parseVrfConfig } from "./config.ts";

/** @throws {CniError} 7 for the configuration; 50 where this kernel knows no VRFs */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  parseVrfConfig(request.config);
  requireVrf(host.kernel.namespace);
}
