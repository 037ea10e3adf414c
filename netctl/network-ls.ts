import type { Register } from "./command.ts";
import { ExitCode } from "./failure.ts";
import { writeJson } from "./io.ts";
import { attachmentsOf, listNetworks } from "./network-listing.ts";
import { renderTable } from "./table.ts";
import type { World } from "./world.ts";

export interface NetworkLsFlags {
  readonly quiet?: boolean;
  readonly trunc?: boolean;
  readonly json?: boolean;
}

export const registerNetworkLs: Register = (parent, invoke) => {
  parent
    .command("ls")
    .alias("list")
    .summary("List networks")
    .description("List the networks that are configured on this host.")
    .option("-q, --quiet", "print ids only")
    .option("--no-trunc", "do not shorten ids")
    .option("--json", "print JSON")
    .action((flags: NetworkLsFlags, command) => invoke(command, (world) => networkLs(flags, world)));
};

export async function networkLs(flags: NetworkLsFlags, world: World): Promise<ExitCode> {
  const networks = await listNetworks(world);
  const rows = await Promise.all(
    networks.map(async ({ name, id, driver, subnets, configured }) => {
      const attachments = await attachmentsOf(world, name);
      return {
        id,
        name,
        driver,
        subnets: subnets.map(({ subnet }) => subnet),
        attachments: attachments.length,
        plugins: configured.list.plugins.map(({ type }) => type),
        path: configured.path,
      };
    }),
  );
  const shorten = (id: string) => (flags.trunc === false ? id : id.slice(0, 12));
  if (flags.json === true) writeJson(world.io, rows);
  else if (flags.quiet === true) world.io.stdout(rows.map(({ id }) => `${shorten(id)}\n`).join(""));
  else {
    const cells = rows.map((row) => [
      shorten(row.id),
      row.name,
      row.driver,
      row.subnets.join(", "),
      String(row.attachments),
    ]);
    world.io.stdout(renderTable(["NETWORK ID", "NAME", "DRIVER", "SUBNETS", "ATTACHMENTS"], cells));
  }
  return ExitCode.Ok;
}
