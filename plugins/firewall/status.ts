import { CniError, ErrorCode } from "#cni/error.ts";
import type { StatusRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { withBackend } from "./backend.ts";
import { parseFirewallConfig } from "./config.ts";
import { rulesUsable } from "./rules.ts";

/** @throws {CniError} 7 for the configuration; 50 where the backend can't be used */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  const { backend } = await withBackend(parseFirewallConfig(request.config), host);
  try {
    await rulesUsable(backend, host);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(ErrorCode.PluginNotAvailable, message, { cause });
  }
}
