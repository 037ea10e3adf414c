import type { DelRequest } from "#cni/plugin.ts";
import { parseDataDir } from "./config.ts";
import { type HostLocalHost, openLeases } from "./host.ts";

/** Takes back what the attachment has, whatever the ranges are by now. */
export async function del(request: DelRequest, host: HostLocalHost): Promise<void> {
  const { config, containerId, ifName } = request;
  const dataDir = parseDataDir(config, host.directories.leases);
  await openLeases(host, config, dataDir).release({ containerId, ifName });
}
