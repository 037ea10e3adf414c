import type { StatusRequest } from "#cni/plugin.ts";
import { parseSbrConfig } from "./config.ts";

/** @throws {CniError} 7 for the configuration: a container's namespace is all that sbr needs besides */
export async function status(request: StatusRequest): Promise<void> {
  parseSbrConfig(request.config);
}
