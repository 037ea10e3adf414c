import type { ResolverReport } from "#dns-resolver/messages.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { askResolver } from "#netctl/resolver.ts";
import { renderTable } from "#netctl/table.ts";
import type { World } from "#netctl/world.ts";

export interface DnsLsFlags {
  readonly json?: boolean;
}

export const registerDnsLs: Register = (parent, invoke) => {
  parent
    .command("ls")
    .alias("list")
    .summary("Show names, and what becomes of all other questions")
    .description(
      "Show the containers that netd's resolver answers, their names by network, and whom their other questions go to.",
    )
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl dns ls\n  netctl dns ls --json | jq '.containers[] | select(.failures > 0)'",
    )
    .action((flags: DnsLsFlags, command) => invoke(command, (world) => dnsLs(flags, world)));
};

export async function dnsLs(flags: DnsLsFlags, world: World): Promise<ExitCode> {
  const report = (await askResolver(world, { op: "list" })) as ResolverReport;
  if (flags.json === true) {
    writeJson(world.io, { ...report });
    return ExitCode.Ok;
  }
  const sandboxes = new Map(
    (await world.sandboxes.list()).map(({ containerId, name }) => [containerId, name]),
  );
  const rows = report.containers.flatMap((container) => {
    const others =
      container.from === "nowhere"
        ? "nobody"
        : `${container.servers.join(" ") || "nobody"} (${container.from})`;
    return container.networks.map(({ network, names, addresses }) => [
      sandboxes.get(container.containerId) ?? container.containerId.slice(0, 12),
      network,
      names.join(" "),
      addresses.map((each) => each.replace(/\/.*/, "")).join(" "),
      others,
      container.problem ?? container.state,
      `${container.queries}/${container.failures}`,
    ]);
  });
  const heads = ["CONTAINER", "NETWORK", "NAMES", "ADDRESSES", "OTHERS FROM", "STATE", "QUERIES/FAILED"];
  world.io.stdout(renderTable(heads, rows));
  for (const { containerId, refused } of report.containers) {
    if (refused === 0) continue;
    const label = sandboxes.get(containerId) ?? containerId.slice(0, 12);
    world.io.stdout(
      `\n${label} has reached a limit ${refused} times: 256 questions under way, or 64 connections\n`,
    );
  }
  world.io.stdout(
    `\n${report.cached} answers of servers are kept, ${Math.ceil(report.cachedBytes / 1024)} KiB\n`,
  );
  return ExitCode.Ok;
}
