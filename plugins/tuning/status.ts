import type { StatusRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { allowlistPath, refuseForbiddenKeys } from "./allowlist.ts";
import { parseTuningConfig } from "./config.ts";

/** @throws {CniError} 7 for the configuration, and for a sysctl that the host's administrator has not allowed */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  const { sysctls } = parseTuningConfig(request.config, []);
  refuseForbiddenKeys(
    sysctls.map(({ key }) => key),
    allowlistPath(host.directories),
  );
}
