import type { GcRequest } from "#cni/plugin.ts";
import { parseDataDir } from "./config.ts";
import { type HostLocalHost, openLeases } from "./host.ts";

/** Takes back every address of the network whose owner is not in the list, even where the reference plugin gave it out. */
export async function gc(request: GcRequest, host: HostLocalHost): Promise<void> {
  if (!request.validAttachments) return;
  const dataDir = parseDataDir(request.config, host.directories.leases);
  await openLeases(host, request.config, dataDir).collect(request.validAttachments);
}
