import type { Register } from "#netctl/command.ts";
import { ExitCode, Failure } from "#netctl/failure.ts";
import { forgetAttachment } from "#netctl/forget-attachment.ts";
import type { World } from "#netctl/world.ts";
import { UnknownNetwork } from "#runtime/conf-dir.ts";
import { didYouMean } from "#runtime/nearest-word.ts";
import { report } from "./connect.ts";
import { attachmentsOf, findNetwork, listAllNetworks, type Network } from "./listing.ts";

export interface NetworkDisconnectFlags {
  readonly force?: boolean;
  readonly json?: boolean;
}

export const registerNetworkDisconnect: Register = (parent, invoke) => {
  parent
    .command("disconnect")
    .summary("Disconnect a sandbox from a network")
    .description(
      "Disconnect a running sandbox from a network. Default gateway and published ports go to what is left.",
    )
    .argument("<network>", "name or id of the network")
    .argument("<sandbox>", "name of the sandbox; with --force also the id of a container that has gone")
    .option("-f, --force", "remove what a container that has gone left in the network")
    .option("--json", "print the sandbox's attachments and ports as JSON")
    .addHelpText(
      "after",
      `
Examples:
  netctl network disconnect back web
  netctl network disconnect -f back 3c9a01f2b7e4`,
    )
    .action((network: string, sandbox: string, flags: NetworkDisconnectFlags, command) =>
      invoke(command, (world) => networkDisconnect(network, sandbox, flags, world)),
    );
};

export async function networkDisconnect(
  name: string,
  container: string,
  flags: NetworkDisconnectFlags,
  world: World,
): Promise<ExitCode> {
  const sandbox = (await world.sandboxes.list()).find(
    (each) => each.name === container || each.containerId === container,
  );
  const network = await networkOf(name, world);
  if (sandbox !== undefined) {
    report(await world.sandboxes.disconnect(sandbox.name, network?.name ?? name), flags, world);
    return ExitCode.Ok;
  }
  if (network === undefined) {
    const names = (await listAllNetworks(world)).map((each) => each.name);
    throw new Failure(`network ${name} not found${didYouMean(name, names)}`);
  }
  await forget(network, container, flags, world);
  return ExitCode.Ok;
}

/** A sandbox may be attached to a network whose configuration has gone. */
async function networkOf(name: string, world: World): Promise<Network | undefined> {
  try {
    return await findNetwork(world, name);
  } catch (error) {
    if (error instanceof UnknownNetwork) return undefined;
    throw error;
  }
}

/** DEL for what no runtime will take away any more. */
async function forget(
  network: Network,
  container: string,
  flags: NetworkDisconnectFlags,
  world: World,
): Promise<void> {
  const all = await attachmentsOf(world, network.name);
  const found = all.filter(({ containerId }) => container !== "" && containerId.startsWith(container));
  if (found.length === 0) {
    throw new Failure(`container ${container} is not connected to network ${network.name}`);
  }
  const [first] = found;
  if (found.some(({ containerId }) => containerId !== first?.containerId)) {
    throw new Failure(`container ${container} is ambiguous in network ${network.name}`);
  }
  if (found.some(({ isAlive }) => isAlive)) {
    throw new Failure(
      `container ${container} is none of netctl's sandboxes and runs: only its own runtime can disconnect it`,
    );
  }
  if (flags.force !== true) {
    throw new Failure(`container ${container} has gone; --force removes what it has left in ${network.name}`);
  }
  for (const attachment of found) await forgetAttachment(network, attachment, world);
}
