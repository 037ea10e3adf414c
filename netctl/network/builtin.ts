import type { World } from "#netctl/world.ts";
import { UnknownNetwork } from "#runtime/conf-dir.ts";
import { createNetwork } from "./create.ts";
import { parseNetworkDefinition, plainNetwork } from "./definition.ts";
import type { Network } from "./listing.ts";
import { builtinNetworks, defaultBridge, findNetwork } from "./listing.ts";

/**
 * A network that something is to be attached to: one that is configured, or `bridge`, which is made when it is used
 * first, or `host`.
 * @throws {UnknownNetwork}
 */
export async function networkForUse(name: string, world: World): Promise<Network> {
  const host = builtinNetworks().find((each) => each.name === "host");
  if (name === "host" && host !== undefined) return host;
  try {
    return await findNetwork(world, name);
  } catch (error) {
    if (!(error instanceof UnknownNetwork) || name !== "bridge" || error.problems.length > 0) throw error;
    await createDefaultBridge(world);
    return await findNetwork(world, name);
  }
}

/** Does nothing where somebody else has made it meanwhile. */
async function createDefaultBridge(world: World): Promise<void> {
  const { networkOptions } = await world.settings();
  const definition = parseNetworkDefinition({
    ...plainNetwork,
    name: "bridge",
    defaultOptions: { "com.docker.network.bridge.name": defaultBridge, ...networkOptions["bridge"] },
  });
  try {
    await createNetwork(definition, world);
  } catch (error) {
    const { networks } = await world.networks.load();
    if (!networks.some(({ list }) => list.name === "bridge")) throw error;
  }
}
