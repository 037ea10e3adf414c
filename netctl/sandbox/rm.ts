import type { Register } from "#netctl/command.ts";
import type { ExitCode } from "#netctl/failure.ts";
import { removeEach } from "#netctl/remove-each.ts";
import type { World } from "#netctl/world.ts";

export interface SandboxRmFlags {
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export const registerSandboxRm: Register = (parent, invoke) => {
  parent
    .command("rm")
    .alias("remove")
    .summary("Remove sandboxes")
    .description(
      "Remove sandboxes: detach them from their networks, last first, and remove their namespaces.",
    )
    .argument("<name...>", "names of sandboxes")
    .option("-f, --force", "kill the processes that run in them")
    .option("-n, --dry-run", "only say which ones, and refuse what would be refused")
    .option("--json", "print the names that were removed as JSON")
    .action((names: readonly string[], flags: SandboxRmFlags, command) =>
      invoke(command, (world) => sandboxRm(names, flags, world)),
    );
};

/** Prints the name of each sandbox that was removed; goes on past those that could not be. */
export async function sandboxRm(
  names: readonly string[],
  flags: SandboxRmFlags,
  world: World,
): Promise<ExitCode> {
  const kill = flags.force === true;
  return await removeEach(names, { json: flags.json === true }, world, async (name) => {
    if (flags.dryRun === true) await world.sandboxes.requireRemovable(name, { kill });
    else await world.sandboxes.remove(name, { kill });
    return name;
  });
}
