import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { parseHostLocalConfig } from "./config.ts";
import { type HostLocalHost, openLeases } from "./host.ts";
import { readResolvConf } from "./resolv-conf.ts";

/** One address of every range set. */
export async function add(request: AddRequest, host: HostLocalHost): Promise<CniResult> {
  const { config: network, containerId, ifName, netns } = request;
  const config = parseHostLocalConfig(network, request.args, host.directories.leases);
  // Before anything is reserved.
  const dns = config.resolvConf === undefined ? {} : readResolvConf(config.resolvConf);
  const ips = await openLeases(host, network, config.dataDir).allocate({
    owner: { containerId, ifName },
    netns,
    sets: config.sets,
    requested: config.requested,
    signal: request.signal,
  });
  return { interfaces: [], ips, routes: config.routes, dns };
}
