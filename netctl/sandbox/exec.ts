import type { Register } from "#netctl/command.ts";
import { UsageFailure } from "#netctl/failure.ts";
import type { World } from "#netctl/world.ts";
import { enterCommand } from "#runtime/sandbox-enter.ts";
import { SandboxFailure } from "#runtime/sandbox-failure.ts";

export const registerSandboxExec: Register = (parent, invoke) => {
  parent
    .command("exec")
    .summary("Run a command in a sandbox")
    .description(
      "Run a command in a sandbox, on this terminal, and exit with its exit code: 125 if the sandbox can't be entered, 126 if the command can't be run, 127 if there is none.",
    )
    .argument("<name>", "name of the sandbox")
    .argument("<command...>", "command and its arguments, after --")
    .passThroughOptions()
    .action((name: string, words: readonly string[], _flags: unknown, command) =>
      invoke(command, (world) => sandboxExec(name, words, world)),
    );
};

export async function sandboxExec(name: string, words: readonly string[], world: World): Promise<number> {
  const command = words[0] === "--" ? words.slice(1) : words;
  if (command.length === 0)
    throw new UsageFailure(`Cannot run a command in sandbox ${name}: none was given after --`);
  const sandbox = await world.sandboxes.get(name);
  if (sandbox.state !== "ready" && sandbox.state !== "changing") {
    throw new SandboxFailure(
      `Cannot enter sandbox ${name}: it is ${sandbox.state}; "netctl sandbox rm ${name}" clears it away`,
    );
  }
  const { file, args } = enterCommand(
    { ...sandbox, hostname: sandbox.settings.hostname },
    world.sandboxes.filesDirectory(name),
    command,
  );
  return await world.io.runAttached(file, args, world.environment);
}
