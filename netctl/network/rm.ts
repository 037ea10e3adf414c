import type { Register } from "#netctl/command.ts";
import { describeError, type ExitCode, Failure } from "#netctl/failure.ts";
import { removeOwnBridge } from "#netctl/host-networks.ts";
import { removeEach } from "#netctl/remove-each.ts";
import type { World } from "#netctl/world.ts";
import type { KnownAttachment } from "#runtime/attachments.ts";
import { gcNetworkList } from "#runtime/chain.ts";
import { UnknownNetwork } from "#runtime/conf-dir.ts";
import { predefinedNames } from "./definition.ts";
import { attachmentsOf, findNetwork, reportNetwork } from "./listing.ts";
import { removeOverlayNetwork } from "./overlay.ts";

export interface NetworkRmFlags {
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export const registerNetworkRm: Register = (parent, invoke) => {
  parent
    .command("rm")
    .alias("remove")
    .summary("Remove networks")
    .description(
      "Remove networks: what their plugins left on the host, the bridge that netctl made for them, and the configuration.",
    )
    .argument("<name...>", "names or ids of networks")
    .option("-f, --force", "do not complain of a network that does not exist")
    .option("-n, --dry-run", "only say which ones, and refuse what would be refused")
    .option("--json", "print the names that were removed as JSON")
    .action((names: readonly string[], flags: NetworkRmFlags, command) =>
      invoke(command, (world) => networkRm(names, flags, world)),
    );
};

/** Prints the name of each network that was removed; goes on past those that could not be. */
export async function networkRm(
  names: readonly string[],
  flags: NetworkRmFlags,
  world: World,
): Promise<ExitCode> {
  return await removeEach(names, { json: flags.json === true }, world, async (name) => {
    try {
      return await removeNetwork(name, world, { dryRun: flags.dryRun === true });
    } catch (error) {
      if (flags.force === true && error instanceof UnknownNetwork && error.problems.length === 0) return;
      throw error;
    }
  });
}

/**
 * Removes a network to which nothing is attached, and what attachments that have gone left of it.
 * @param options.dryRun looks whether it could be removed
 * @returns its name
 * @throws {Failure} naming who uses it
 */
export async function removeNetwork(
  nameOrId: string,
  world: World,
  options: { readonly dryRun?: boolean } = {},
): Promise<string> {
  if (predefinedNames.includes(nameOrId))
    throw new Failure(`${nameOrId} is a pre-defined network and cannot be removed`);
  const network = await findNetwork(world, nameOrId);
  const { name, configured, notes, bridges } = network;
  const isRecorded = await refuseIfUsed(name, world);
  if (options.dryRun === true) return name;
  try {
    // What is left of attachments whose containers have gone.
    await gcNetworkList({ ...configured.list, disableGc: false }, [], world.chain);
  } catch (error) {
    // A network that was never used has to go even where its plugins are missing.
    if (isRecorded) throw error;
    world.io.stderr(`netctl: warning: ${describeError(error)}\n`);
  }
  if (notes?.ownsBridge === true) {
    for (const bridge of bridges) await removeOwnBridge(world.kernel.namespace, bridge);
  }
  if (notes?.driver === "overlay-vxlan") {
    const holders = await removeOverlayNetwork(name, world);
    if (holders.length > 0)
      throw new Failure(
        `network ${name} is in use on ${holders.join(", ")}: it goes when the last container there has gone`,
      );
    reportNetwork("destroy", network, world);
    return name;
  }
  await world.networks.remove(configured);
  reportNetwork("destroy", network, world);
  return name;
}

/** Answers whether attachments are recorded, all of containers that have gone. */
async function refuseIfUsed(name: string, world: World): Promise<boolean> {
  const attachments = await attachmentsOf(world, name);
  const users = await findUsers(name, attachments, world);
  if (users.length === 0) return attachments.length > 0;
  const shown = users.length > 5 ? [...users.slice(0, 5), `and ${users.length - 5} more`] : users;
  throw new Failure(`network ${name} has active endpoints: ${shown.join(", ")}; remove them first`);
}

/** Names of the sandboxes, and ids of the containers, that are attached. Sorted. */
export async function findUsers(
  name: string,
  attachments: readonly KnownAttachment[],
  world: World,
): Promise<readonly string[]> {
  const sandboxes = await world.sandboxes.list();
  const used = [
    ...attachments
      .filter(({ isAlive }) => isAlive)
      .map(
        ({ containerId }) => sandboxes.find((each) => each.containerId === containerId)?.name ?? containerId,
      ),
    ...sandboxes
      .filter((each) => each.attachments.some(({ network }) => network === name))
      .map((each) => each.name),
  ];
  return [...new Set(used)].sort();
}
