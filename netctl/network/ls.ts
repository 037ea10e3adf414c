import { gather, type Register } from "#netctl/command.ts";
import { ExitCode } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { renderTable } from "#netctl/table.ts";
import { parseTemplate, unescapeFormat } from "#netctl/template.ts";
import type { World } from "#netctl/world.ts";
import { parseLsFilters, scopeOf } from "./filter.ts";
import { attachmentsOf, listAllNetworks, type Network } from "./listing.ts";

export interface NetworkLsFlags {
  readonly quiet?: boolean;
  readonly trunc?: boolean;
  readonly filter: readonly string[];
  readonly format?: string;
  readonly json?: boolean;
}

export const registerNetworkLs: Register = (parent, invoke) => {
  parent
    .command("ls")
    .alias("list")
    .summary("List networks")
    .description("List the networks that are configured on this host, and those that are always there.")
    .option("-q, --quiet", "print ids only")
    .option("--no-trunc", "do not shorten ids")
    .option("-f, --filter <key=value>", "dangling, driver, id, label, name, scope, type", gather, [])
    .option("--format <template>", "json, or a Go template of ID, Name, Driver, Scope, Subnets, Labels …")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      `
Examples:
  netctl network ls --filter type=custom --filter label=tier=front
  netctl network ls -q --filter dangling=true
  netctl network ls --format '{{.Name}}\\t{{.Driver}}\\t{{.Internal}}'`,
    )
    .action((flags: NetworkLsFlags, command) => invoke(command, (world) => networkLs(flags, world)));
};

export async function networkLs(flags: NetworkLsFlags, world: World): Promise<ExitCode> {
  const isWanted = parseLsFilters(flags.filter);
  const template = flags.format === undefined ? undefined : parseTemplate(templateText(flags.format));
  const shorten = (id: string) => (flags.trunc === false ? id : id.slice(0, 12));
  const counted = await Promise.all(
    (await listAllNetworks(world)).map(async (network) => ({
      network,
      attachments: (await attachmentsOf(world, network.name)).length,
    })),
  );
  const found = counted.filter(isWanted);
  if (flags.json === true) {
    writeJson(
      world.io,
      found.map(({ network, attachments }) => describe(network, attachments)),
    );
    return ExitCode.Ok;
  }
  if (template !== undefined) {
    const rows = found.map(({ network }) => template(fieldsOf(network, shorten)));
    if (flags.format?.startsWith("table ")) world.io.stdout(renderFormatTable(flags.format, rows));
    else world.io.stdout(rows.map((row) => `${row}\n`).join(""));
    return ExitCode.Ok;
  }
  if (flags.quiet === true) {
    world.io.stdout(found.map(({ network: { id } }) => `${shorten(id)}\n`).join(""));
    return ExitCode.Ok;
  }
  const cells = found.map(({ network, attachments }) => [
    shorten(network.id),
    network.name,
    network.driver,
    scopeOf(network),
    network.subnets.map(({ subnet }) => subnet).join(", "),
    String(attachments),
  ]);
  world.io.stdout(renderTable(["NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNETS", "ATTACHMENTS"], cells));
  return ExitCode.Ok;
}

function describe(network: Network, attachments: number) {
  const { id, name, driver, subnets, configured, notes } = network;
  return {
    id,
    name,
    driver,
    scope: scopeOf(network),
    internal: notes?.internal ?? false,
    labels: notes?.labels ?? {},
    subnets: subnets.map(({ subnet }) => subnet),
    attachments,
    plugins: configured.list.plugins.map(({ type }) => type),
    path: configured.path,
  };
}

/** Docker's names, and `Subnets` beside them. */
function fieldsOf(network: Network, shorten: (id: string) => string) {
  const { id, name, driver, subnets, notes } = network;
  const has = (family: 4 | 6) => subnets.some(({ subnet }) => subnet.includes(":") === (family === 6));
  return {
    ID: shorten(id),
    Name: name,
    Driver: driver,
    Scope: scopeOf(network),
    IPv4: has(4),
    IPv6: has(6),
    Internal: notes?.internal ?? false,
    Labels: Object.entries(notes?.labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(","),
    CreatedAt: notes?.createdAt ?? "",
    Subnets: subnets.map(({ subnet }) => subnet).join(", "),
  };
}

function templateText(format: string): string {
  if (format === "json") return "{{json .}}";
  return unescapeFormat(format.replace(/^table /, ""));
}

/** `table {{.ID}}\t{{.Name}}`: headings are the names of the fields. */
function renderFormatTable(format: string, rows: readonly string[]): string {
  const head = templateText(format)
    .split("\t")
    .map((column) => /\.(\w+)/.exec(column)?.[1]?.toUpperCase() ?? column)
    .map((name) => (name === "ID" ? "NETWORK ID" : name));
  return renderTable(
    head,
    rows.map((row) => row.split("\t")),
  );
}
