import type { StatusRequest } from "#cni/plugin.ts";
import { requireShaping } from "#kernel/ifb.ts";
import type { PluginHost } from "#plugins/context.ts";
import { parseBandwidthConfig } from "./config.ts";

/** @throws {CniError} 7 for the configuration; 50 where this kernel can't shape */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  const { subnets } = parseBandwidthConfig(request.config);
  // What the runtime will ask for is not known yet: it may well be both directions.
  requireShaping(host.kernel.namespace, { ifb: true, kind: subnets.length > 0 ? "htb" : "tbf" });
}
