import type { Register } from "#netctl/command.ts";
import { describeError, ExitCode } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import type { World } from "#netctl/world.ts";
import { warnUnpublished } from "./create.ts";

export interface SandboxRepairFlags {
  readonly json?: boolean;
}

export const registerSandboxRepair: Register = (parent, invoke) => {
  parent
    .command("repair")
    .summary("Mend sandboxes whose change was cut off")
    .description(
      "Finish a disconnect and take back a connect that were cut off, and make default gateway, routes and published ports what they have to be.",
    )
    .argument("<name...>", "names of sandboxes")
    .option("--json", "print the names that were mended as JSON")
    .addHelpText("after", "\nExample:\n  netctl sandbox repair web")
    .action((names: readonly string[], flags: SandboxRepairFlags, command) =>
      invoke(command, (world) => sandboxRepair(names, flags, world)),
    );
};

/** Prints the name of each sandbox that was mended; goes on past those that could not be. */
export async function sandboxRepair(
  names: readonly string[],
  flags: SandboxRepairFlags,
  world: World,
): Promise<ExitCode> {
  const mended: string[] = [];
  let exitCode: ExitCode = ExitCode.Ok;
  for (const name of names) {
    try {
      const { unpublished } = await world.sandboxes.repair(name);
      warnUnpublished(unpublished, world);
      mended.push(name);
    } catch (error) {
      world.io.stderr(`netctl: ${describeError(error)}\n`);
      exitCode = ExitCode.Failure;
    }
  }
  if (flags.json === true) writeJson(world.io, mended);
  else world.io.stdout(mended.map((name) => `${name}\n`).join(""));
  return exitCode;
}
