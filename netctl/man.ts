import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { replaceFile } from "#machine/replace-file.ts";
import type { Register } from "./command.ts";
import { ExitCode } from "./failure.ts";
import { suiteVersion } from "./version.ts";
import type { World } from "./world.ts";

export const registerMan: Register = (parent, invoke) => {
  parent
    .command("man")
    .summary("Write the manual pages")
    .description(
      "Write a page of the manual for netctl and for each of its commands, from the definitions that parse them, into DIRECTORY/man1. man(1) finds them where that directory is in MANPATH.",
    )
    .argument("<directory>", "as /usr/local/share/man")
    .addHelpText("after", "\nExample:\n  netctl man /usr/local/share/man && man netctl-network-create")
    .action((directory: string, _flags: object, command) =>
      invoke(command, (world) => writePages(parent, directory, world)),
    );
};

async function writePages(program: Command, directory: string, world: World): Promise<ExitCode> {
  const folder = join(resolve(world.io.workingDirectory, directory), "man1");
  await mkdir(folder, { recursive: true, mode: 0o755 });
  for (const [name, text] of manualPages(program)) {
    replaceFile(join(folder, `${name}.1`), text, 0o644);
    world.io.stdout(`${join(folder, `${name}.1`)}\n`);
  }
  return ExitCode.Ok;
}

/** One page for the program and each command, by name: `netctl-network-create`. Pure. */
export function manualPages(program: Command): ReadonlyMap<string, string> {
  const pages = new Map<string, string>();
  const visit = (command: Command, path: readonly string[]) => {
    const name = path.join("-");
    const below = command
      .createHelp()
      .visibleCommands(command)
      .filter((each) => each.name() !== "help");
    pages.set(name, page(command, path, below));
    for (const each of below) visit(each, [...path, each.name()]);
  };
  visit(program, [program.name()]);
  return pages;
}

function page(command: Command, path: readonly string[], below: readonly Command[]): string {
  const help = command.createHelp();
  const options = help.visibleOptions(command).filter(({ long }) => long !== "--help");
  const globals = help.visibleGlobalOptions(command);
  const items = (list: readonly (readonly [string, string])[]) =>
    list.flatMap(([term, text]) => [".TP", `.B ${escape(term)}`, escape(text)]);
  const section = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : [`.SH ${title}`, ...lines];
  const usage = help.commandUsage(command).replace(/^.*?\[options\]/, `${path.join(" ")} [options]`);
  const examples = examplesOf(command);
  return `${[
    `.TH "${path.join("-").toUpperCase()}" 1 "" "netctl ${suiteVersion}" "netctl"`,
    ...section("NAME", [
      `${escape(path.join("-"))} \\- ${escape(command.summary() || command.description())}`,
    ]),
    ...section("SYNOPSIS", [`.B ${escape(usage)}`]),
    ...section("DESCRIPTION", [escape(command.description())]),
    ...section("COMMANDS", items(below.map((each) => [each.name(), each.summary() || each.description()]))),
    ...section(
      "ARGUMENTS",
      items(help.visibleArguments(command).map((each) => [each.name(), help.argumentDescription(each)])),
    ),
    ...section("OPTIONS", items(options.map((each) => [each.flags, help.optionDescription(each)]))),
    ...section("GLOBAL OPTIONS", items(globals.map((each) => [each.flags, each.description]))),
    ...section("EXIT STATUS", items(exitCodes)),
    ...section("EXAMPLES", examples === "" ? [] : [".nf", ...examples.split("\n").map(escape), ".fi"]),
  ].join("\n")}\n`;
}

const exitCodes: readonly (readonly [string, string])[] = [
  ["0", "done; of commands that look for something wrong, nothing worse than a note was found"],
  ["1", "it could not be done, or something wrong was found"],
  ["2", "the words of the command are wrong"],
  ["130, 143", "stopped by SIGINT or SIGTERM, after what was begun was taken back"],
];

/** What stands below the options in the help. */
function examplesOf(command: Command): string {
  let text = "";
  command.configureOutput({ writeOut: (each) => (text += each) });
  command.outputHelp();
  const [, examples = ""] = /\nExamples?:\n([\s\S]*)$/.exec(text) ?? [];
  return examples.trimEnd();
}

/** roff(7): a backslash, a hyphen that is one, and a control character at the beginning of a line. */
function escape(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gm, "\\&$1");
}
