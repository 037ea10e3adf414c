import type { StatusRequest } from "#cni/plugin.ts";
import { parseConfiguredSets, parseDataDir } from "./config.ts";
import { type HostLocalHost, openLeases } from "./host.ts";

/** The configuration is right, leases can be written, and every range set has an address left. */
export async function status(request: StatusRequest, host: HostLocalHost): Promise<void> {
  const { config } = request;
  const dataDir = parseDataDir(config, host.directories.leases);
  await openLeases(host, config, dataDir).checkRoom(parseConfiguredSets(config));
}
