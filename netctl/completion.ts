import { type Argument as Completed, RootCommand, script } from "@bomb.sh/tab";
import type { Command } from "commander";
import type { Register } from "./command.ts";
import { ExitCode, UsageFailure } from "./failure.ts";
import { drivers } from "./network/definition.ts";
import type { World } from "./world.ts";

const shells = ["bash", "zsh", "fish"] as const;

export const registerCompletion: Register = (parent, invoke) => {
  parent
    .command("completion")
    .summary("Print the script that completes netctl's words in a shell")
    .description(
      "Print a script that completes commands, flags, and the names of networks and sandboxes.\n\n  bash:  source <(netctl completion bash)\n  zsh:   source <(netctl completion zsh)\n  fish:  netctl completion fish | source",
    )
    .argument("<shell>", shells.join(", "))
    .action((shell: string, _flags: object, command) =>
      invoke(command, (world) => {
        const known = shells.find((each) => each === shell);
        if (known === undefined) {
          throw new UsageFailure(`Cannot complete in ${shell}: expected one of ${shells.join(", ")}`);
        }
        if (known === "bash") world.io.stdout(bashScript);
        else print(world, () => script(known, "netctl", "netctl"));
        return Promise.resolve(ExitCode.Ok);
      }),
    );
  parent
    .command("complete", { hidden: true })
    .description("What may stand at the end of a command line: the scripts of completion ask so")
    .argument("[words...]")
    .allowUnknownOption()
    .passThroughOptions()
    .action((words: readonly string[], _flags: object, command) =>
      invoke(command, async (world) => {
        const names = await readNames(world);
        const completions = describe(parent, names);
        print(world, () => completions.parse([...words]));
        return ExitCode.Ok;
      }),
    );
};

/**
 * Without bash-completion's functions, which not every host has, and without eval, which the library's own has: what is
 * typed and not sent off yet shall not be run. Each line that comes is a word, a tab, and what it is about; the last
 * one is for other shells.
 */
const bashScript = `_netctl() {
  local line current=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  while IFS= read -r line; do
    line=\${line%%$'\\t'*}
    [[ $line == :* || $line != "$current"* ]] || COMPREPLY+=("$line")
  done < <(netctl complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _netctl netctl
`;

/** The library writes by console.log. */
function print({ io }: World, act: () => void): void {
  const { log } = console;
  console.log = (text: unknown) => io.stdout(`${String(text)}\n`);
  try {
    act();
  } finally {
    console.log = log;
  }
}

interface Names {
  readonly networks: readonly string[];
  readonly sandboxes: readonly string[];
}

/** What can't be read completes to nothing: a shell is no place for errors. */
async function readNames(world: World): Promise<Names> {
  const networks = await world.networks.load().catch(() => ({ networks: [] }));
  const sandboxes = await world.sandboxes.list().catch(() => []);
  return {
    networks: networks.networks.map(({ list }) => list.name).sort(),
    sandboxes: sandboxes.map(({ name }) => name),
  };
}

/** All commands with their flags and arguments, from the definitions that parse them. */
function describe(program: Command, names: Names): RootCommand {
  const root = new RootCommand();
  const visit = (command: Command, path: readonly string[]) => {
    const target =
      path.length === 0 ? root : root.command(path.join(" "), command.summary() || command.description());
    const help = command.createHelp();
    for (const option of help.visibleOptions(command)) {
      const long = option.long?.slice(2);
      if (long === undefined) continue;
      const short = option.short?.slice(1);
      const values = valuesOf(long, names);
      if (option.required || option.optional) {
        target.option(
          long,
          option.description,
          (complete) => values.forEach((each) => complete(each, "")),
          short,
        );
      } else target.option(long, option.description, short);
    }
    for (const argument of command.registeredArguments) {
      const words = wordsFor(path, argument.name(), names);
      const handler = function (this: Completed, complete: (value: string, description: string) => void) {
        for (const word of words) complete(word, "");
      };
      target.argument(argument.name(), words.length === 0 ? undefined : handler, argument.variadic);
    }
    for (const below of help.visibleCommands(command))
      if (below.name() !== "help") visit(below, [...path, below.name()]);
  };
  visit(program, []);
  return root;
}

function valuesOf(option: string, { networks, sandboxes }: Names): readonly string[] {
  switch (option) {
    case "network":
      return [...networks, "bridge", "host", "none"];
    case "from":
      return sandboxes;
    case "driver":
      return drivers;
    default:
      return [];
  }
}

/** What an argument is a name of: by itself, or by the group that its command stands in. */
function wordsFor(
  [group = "", command = ""]: readonly string[],
  argument: string,
  names: Names,
): readonly string[] {
  const { networks, sandboxes } = names;
  if (command === "create") return [];
  switch (argument) {
    case "network":
    case "conflist":
    case "file-or-directory":
      return networks;
    case "sandbox":
    case "container":
    case "from":
    case "to":
      return sandboxes;
    case "shell":
      return shells;
    case "name":
      if (group === "network") return networks;
      if (group === "sandbox") return sandboxes;
      return [...networks, ...sandboxes];
    default:
      return [];
  }
}
