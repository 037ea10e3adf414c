import type { LogReport } from "#dns-resolver/messages.ts";
import type { LogEntry } from "#dns-resolver/query-log.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode } from "#netctl/failure.ts";
import { askResolver, describeSource } from "#netctl/resolver.ts";
import { rest } from "#netctl/rest.ts";
import type { World } from "#netctl/world.ts";

export interface DnsLogFlags {
  readonly follow?: boolean;
  readonly json?: boolean;
}

const intervalMs = 500;

export const registerDnsLog: Register = (parent, invoke) => {
  parent
    .command("log")
    .summary("Show what containers ask")
    .description(
      "Show the last questions that could not be answered, with --follow every question from now on. While somebody follows, the resolver does more for each.",
    )
    .option("-f, --follow", "go on until Ctrl-C")
    .option("--json", "print one JSON object a line")
    .addHelpText("after", "\nExamples:\n  netctl dns log\n  netctl dns log --follow")
    .action((flags: DnsLogFlags, command) => invoke(command, (world) => dnsLog(flags, world)));
};

export async function dnsLog(flags: DnsLogFlags, world: World): Promise<ExitCode> {
  const sandboxes = new Map(
    (await world.sandboxes.list()).map(({ containerId, name }) => [containerId, name]),
  );
  let after = 0;
  for (;;) {
    const { entries } = (await askResolver(world, { op: "log", after })) as LogReport;
    for (const entry of entries) {
      after = Math.max(after, entry.sequence);
      const container = sandboxes.get(entry.containerId) ?? entry.containerId.slice(0, 12);
      const text = flags.json === true ? JSON.stringify({ ...entry, container }) : lineOf(entry, container);
      world.io.stdout(`${text}\n`);
    }
    if (flags.follow !== true) {
      if (entries.length === 0 && flags.json !== true)
        world.io.stderr("No question has failed. --follow shows all that are asked from now on.\n");
      return ExitCode.Ok;
    }
    if (!(await rest(intervalMs, world.chain.signal))) return ExitCode.Ok;
  }
}

function lineOf({ timeMs, name, type, rcode, ms, source }: LogEntry, container: string): string {
  const time = new Date(timeMs).toISOString();
  return `${time} ${container} ${name || "."} ${type} ${rcode} ${ms} ms: ${describeSource(source)}`;
}
