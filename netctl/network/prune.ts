import { gather, type Register } from "#netctl/command.ts";
import { parseDuration } from "#netctl/duration.ts";
import { describeError, ExitCode, Failure } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import type { World } from "#netctl/world.ts";
import { builtinNames } from "./definition.ts";
import { parsePruneFilters } from "./filter.ts";
import { attachmentsOf, listNetworks } from "./listing.ts";
import { findUsers, removeNetwork } from "./rm.ts";

export interface NetworkPruneFlags {
  readonly force?: boolean;
  readonly filter: readonly string[];
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export const registerNetworkPrune: Register = (parent, invoke) => {
  parent
    .command("prune")
    .summary("Remove all unused networks")
    .description(
      "Remove the networks that netctl created and to which nothing is attached. Configurations of others are left alone.",
    )
    .option("-f, --force", "do not ask")
    .option("--filter <key=value>", "label, label!, until (24h, or a time)", gather, [])
    .option("-n, --dry-run", "only say which ones")
    .option("--json", "print the names as JSON")
    .addHelpText(
      "after",
      `
Examples:
  netctl network prune --dry-run
  netctl network prune -f --filter until=24h --filter 'label!=keep'`,
    )
    .action((flags: NetworkPruneFlags, command) => invoke(command, (world) => networkPrune(flags, world)));
};

const question =
  "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue? [y/N] ";

export async function networkPrune(flags: NetworkPruneFlags, world: World): Promise<ExitCode> {
  const isWanted = parsePruneFilters(flags.filter, Date.now(), (text) =>
    parseDuration(text, `--filter until=${text}`),
  );
  if (flags.force !== true && flags.dryRun !== true) {
    const answer = await world.io.ask(question);
    if (!/^y(es)?$/i.test(answer)) throw new Failure("network prune has been cancelled");
  }
  const unused: string[] = [];
  for (const network of await listNetworks(world)) {
    if (network.notes === undefined || builtinNames.includes(network.name)) continue;
    const attachments = await attachmentsOf(world, network.name);
    if (!isWanted({ network, attachments: attachments.length })) continue;
    if ((await findUsers(network.name, attachments, world)).length === 0) unused.push(network.name);
  }
  const removed: string[] = [];
  let exitCode: ExitCode = ExitCode.Ok;
  for (const name of flags.dryRun === true ? [] : unused) {
    try {
      removed.push(await removeNetwork(name, world));
    } catch (error) {
      world.io.stderr(`netctl: ${describeError(error)}\n`);
      exitCode = ExitCode.Failure;
    }
  }
  const shown = flags.dryRun === true ? unused : removed;
  if (flags.json === true) writeJson(world.io, shown);
  else if (shown.length > 0) {
    const heading = flags.dryRun === true ? "Networks that would be deleted:" : "Deleted Networks:";
    world.io.stdout(`${[heading, ...shown].join("\n")}\n\n`);
  }
  return exitCode;
}
