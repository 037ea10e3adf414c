import { CniError, ErrorCode } from "#cni/error.ts";
import type { StatusRequest } from "#cni/plugin.ts";
import { overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import { LocalNetworks } from "#overlay/local-network.ts";
import { readOverlayStatus } from "#overlay/status-file.ts";
import { bridge } from "#plugins/bridge/main.ts";
import type { PluginHost } from "#plugins/context.ts";
import { fullFamily, hasAllFamilies, untilMoreBlocks } from "./blocks.ts";
import { bridgeRequest } from "./bridge-request.ts";

/** The agent says every second how it is; one that has said nothing for so long does not run. */
const silentAfterMs = 10_000;
/** An election of the engine's takes less; nobody has to hear of it. */
const awayAfterMs = 5000;
/** For the agent to claim addresses: no runtime waits much longer for an answer. */
const claimWaitMs = 2000;

/**
 * 50 where an ADD would fail, 51 where one would do but something that it needs later is away.
 * @throws {CniError}
 */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  const { name } = request.config;
  const quoted = JSON.stringify(name);
  const cannot = (reason: string) =>
    new CniError(ErrorCode.PluginNotAvailable, `Cannot serve network ${quoted}: ${reason}`);
  const directory = overlayDirectory(host.directories.state);
  if (!readHostSettings(directory)) throw cannot("this host is in no cluster");
  const networks = new LocalNetworks(directory);
  let network = networks.read(name);
  const limit = limitOf(host.directories.run);
  if (!network) throw cannot(limit ?? "the cluster has no such network");
  if (network.state === "deleting") throw cannot("it is being removed");
  if (!hasAllFamilies(network)) {
    // With the engine there, the first ADD makes the agent claim some.
    if (limit !== undefined) throw cannot(`this host has no addresses in it, and ${limit}`);
  } else {
    // More come before the last is given out, unless a crowd asks at once.
    if (limit === undefined && fullFamily(networks, network) !== undefined)
      await untilMoreBlocks(networks, network, { deadlineMs: performance.now() + claimWaitMs });
    network = networks.read(name) ?? network;
    const full = fullFamily(networks, network);
    if (full !== undefined)
      throw cannot(
        `the IPv${full} addresses of this host are all in use, and ${limit ?? "the agent gets no more"}`,
      );
  }
  await bridge.status(withoutIpam(bridgeRequest(request, network, networks.leaseDirectory)), host);
  if (limit !== undefined)
    throw new CniError(
      ErrorCode.LimitedConnectivity,
      `Network ${quoted} is served from what this host has: ${limit}`,
    );
}

/** Why no more addresses come, and no news of other hosts; undefined if they do. */
function limitOf(runDirectory: string): string | undefined {
  const agent = readOverlayStatus(runDirectory);
  if (!agent || agent.ageMs > silentAfterMs) return "netd's agent does not run";
  if (agent.distrust) return `nothing of the engine is believed: ${agent.distrust.reason}`;
  if (!agent.connected && agent.awayMs > awayAfterMs)
    return `the engine has been away for ${Math.round(agent.awayMs / 1000)} s`;
  return undefined;
}

/** Its addresses are looked at above: host-local has nothing to say of a host that has none yet. */
function withoutIpam(request: StatusRequest): StatusRequest {
  const { ipam, ...json } = request.config.json;
  void ipam;
  return { ...request, stdin: JSON.stringify(json), config: { ...request.config, json } };
}
