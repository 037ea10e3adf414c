import type { StatusRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { parsePortmapConfig } from "./config.ts";
import { rulesUsable } from "./rules.ts";

/** @throws {CniError} 7 for the configuration; 50 where the backend can't be used */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  const { backend } = parsePortmapConfig(request.config);
  await rulesUsable(backend, host);
}
