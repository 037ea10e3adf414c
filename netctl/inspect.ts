import type { Register } from "./command.ts";
import { ExitCode } from "./failure.ts";
import { writeJson } from "./io.ts";
import type { World } from "./world.ts";

export const registerInspect: Register = (parent, invoke) => {
  parent
    .command("inspect")
    .argument("[name]", "network or sandbox")
    .option("--json")
    .action((name: string | undefined, flags: { json?: boolean }, command) =>
      invoke(command, (world) => inspect(name, flags, world)),
    );
};

export async function inspect(
  name: string | undefined,
  _flags: { json?: boolean },
  world: World,
): Promise<ExitCode> {
  writeJson(world.io, name ?? null);
  return ExitCode.Ok;
}
