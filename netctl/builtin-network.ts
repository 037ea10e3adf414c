import { type NetworkList, readConfList } from "#cni/conflist.ts";
import { UnknownNetwork } from "#runtime/conf-dir.ts";
import { createNetwork } from "./network-create.ts";
import { parseNetworkDefinition } from "./network-definition.ts";
import type { Network } from "./network-listing.ts";
import { describeNetwork, findNetwork } from "./network-listing.ts";
import type { World } from "./world.ts";

/** The bridge of the network `bridge`, as Docker's is docker0. */
export const defaultBridge = "netctl0";

/**
 * A network that something is to be attached to: one that is configured, or `bridge`, which is made when it is used
 * first, or `host`.
 * @throws {UnknownNetwork}
 */
export async function networkForUse(name: string, world: World): Promise<Network> {
  if (name === "host") return describeNetwork({ path: "", list: hostList });
  try {
    return await findNetwork(world, name);
  } catch (error) {
    if (!(error instanceof UnknownNetwork) || name !== "bridge" || error.problems.length > 0) throw error;
    await createDefaultBridge(world);
    return await findNetwork(world, name);
  }
}

const hostList: NetworkList = readConfList({
  cniVersion: "1.0.0",
  name: "host",
  plugins: [{ type: "host" }],
});

/** Does nothing where somebody else has made it meanwhile. */
async function createDefaultBridge(world: World): Promise<void> {
  const { networkOptions } = await world.settings();
  const definition = parseNetworkDefinition({
    name: "bridge",
    driver: "bridge",
    subnets: [],
    gateways: [],
    ipRanges: [],
    auxAddresses: [],
    options: [],
    defaultOptions: { "com.docker.network.bridge.name": defaultBridge, ...networkOptions["bridge"] },
    labels: [],
    ipv4: true,
    ipv6: false,
    internal: false,
  });
  try {
    await createNetwork(definition, world);
  } catch (error) {
    const { networks } = await world.networks.load();
    if (!networks.some(({ list }) => list.name === "bridge")) throw error;
  }
}
