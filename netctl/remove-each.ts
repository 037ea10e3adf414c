import { describeError, ExitCode } from "./failure.ts";
import { writeJson } from "./io.ts";
import type { World } from "./world.ts";

/**
 * What each `rm` does with several names: prints those that were removed, as lines or as a JSON list, says on stderr why
 * the others were not, and goes on past them.
 * @param remove resolves to the name to print; undefined where there is nothing to say
 * @returns `ExitCode.Failure` if one could not be removed
 */
export async function removeEach(
  names: readonly string[],
  { json }: { readonly json: boolean },
  world: World,
  remove: (name: string) => Promise<string | undefined>,
): Promise<ExitCode> {
  const removed: string[] = [];
  let exitCode: ExitCode = ExitCode.Ok;
  for (const name of names) {
    try {
      const gone = await remove(name);
      if (gone !== undefined) removed.push(gone);
    } catch (error) {
      world.io.stderr(`netctl: ${describeError(error)}\n`);
      exitCode = ExitCode.Failure;
    }
  }
  if (json) writeJson(world.io, removed);
  else world.io.stdout(removed.map((name) => `${name}\n`).join(""));
  return exitCode;
}
