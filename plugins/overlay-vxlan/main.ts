import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest, AnyRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { cniVersions } from "#cni/version.ts";
import { type Cidr, parseCidr } from "#net/cidr.ts";
import type { Operation } from "#nftables/element.ts";
import { overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import { type LocalNetwork, LocalNetworks } from "#overlay/local-network.ts";
import { bridge } from "#plugins/bridge/main.ts";
import type { PluginHost } from "#plugins/context.ts";
import { withCniErrors } from "#plugins/failure.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";
import { hasAllFamilies, untilMoreBlocks } from "./blocks.ts";
import { bridgeRequest } from "./bridge-request.ts";
import { checkOverlay } from "./check.ts";
import { status } from "./status.ts";

/** How long an ADD waits for the agent to claim addresses, where there are none left. */
const claimTimeoutMs = 10_000;

/**
 * Connects containers to a network that reaches over several hosts. On its host such an attachment is one of a bridge;
 * what makes the bridges of all hosts one network is the agent's work (overlay/agent.ts), which no ADD waits for as long
 * as the host has a block with a free address.
 */
export const overlayVxlan: SuitePlugin = {
  name: "overlay-vxlan",
  versions: cniVersions,
  hostNamespace: "refused",
  add: (request, host) => withCniErrors(() => add(request, host)),
  async del(request, host) {
    await bridge.del(locally(request, host), host);
    // Where it is not known any more, the agent finds out.
    tellOfStretched(openNetworks(host), request.config.name);
  },
  check: (request, host) =>
    withCniErrors(async () => {
      await bridge.check(locally(request, host), host);
      checkOverlay(request, openNetworks(host).read(request.config.name), host);
    }),
  async gc(request, host) {
    await bridge.gc(locally(request, host), host);
  },
  status: (request, host) => withCniErrors(() => status(request, host)),
  ...(bridge.upkeep && { upkeep: bridge.upkeep }),
};

async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const networks = openNetworks(host);
  const { name } = request.config;
  const deadlineMs = performance.now() + claimTimeoutMs;
  for (;;) {
    const network = requireNetwork(networks.read(name), name, host);
    if (network.state === "deleting")
      throw new CniError(
        ErrorCode.InvalidNetworkConfig,
        `Cannot attach to network ${JSON.stringify(name)}: it is being removed`,
      );
    if (hasAllFamilies(network)) {
      // Between the hosts of a network nobody is masqueraded.
      await host.nftables.apply(network.subnets.map((text) => sameSubnet(parseCidr(text))));
      try {
        const result = await bridge.add(bridgeRequest(request, network, networks.leaseDirectory), host);
        if (network.mode === "l2") networks.tell(name);
        return result;
      } catch (error) {
        if (!isExhausted(error) || performance.now() > deadlineMs) throw error;
      }
    } else if (performance.now() > deadlineMs) {
      throw new CniError(
        ErrorCode.TryAgainLater,
        `Cannot attach to network ${JSON.stringify(name)}: this host has no addresses in it, and got none within ${claimTimeoutMs / 1000} s`,
        {
          details: "netctl cluster status says whether the engine answers",
        },
      );
    }
    await untilMoreBlocks(networks, network, { deadlineMs, signal: request.signal });
  }
}

function tellOfStretched(networks: LocalNetworks, name: string): void {
  try {
    if (networks.read(name)?.mode === "l2") networks.tell(name);
  } catch {
    // The agent looks by itself as well.
  }
}

function openNetworks(host: PluginHost): LocalNetworks {
  return new LocalNetworks(overlayDirectory(host.directories.state));
}

function locally<R extends AnyRequest>(request: R, host: PluginHost): R {
  const networks = openNetworks(host);
  let network: LocalNetwork | undefined;
  try {
    network = networks.read(request.config.name);
  } catch (error) {
    // DEL and GC go by their records.
    if (request.verb !== "DEL" && request.verb !== "GC") throw error;
  }
  return bridgeRequest(request, network, networks.leaseDirectory);
}

function requireNetwork(network: LocalNetwork | undefined, name: string, host: PluginHost): LocalNetwork {
  if (network) return network;
  const isMember = readHostSettings(overlayDirectory(host.directories.state)) !== undefined;
  throw isMember
    ? new CniError(
        ErrorCode.TryAgainLater,
        `Cannot use network ${JSON.stringify(name)}: the cluster has no such network, or this host does not know it yet`,
      )
    : new CniError(
        ErrorCode.InvalidNetworkConfig,
        `Cannot use network ${JSON.stringify(name)}: this host is in no cluster; "netctl cluster join" makes it a member`,
      );
}

function sameSubnet(cidr: Cidr): Operation {
  return { set: cidr.address.family === 4 ? "sameSubnet4" : "sameSubnet6", key: [cidr, cidr] };
}

function isExhausted(error: unknown): boolean {
  return error instanceof CniError && error.code === ErrorCode.TryAgainLater;
}
