import { isJsonObject } from "#cni/json.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { publishedPortsOf, summarizePorts } from "#netctl/port-text.ts";
import { renderTable } from "#netctl/table.ts";
import type { World } from "#netctl/world.ts";
import type { CachedAttachment } from "#runtime/cache.ts";

export interface SandboxLsFlags {
  readonly quiet?: boolean;
  readonly json?: boolean;
}

export const registerSandboxLs: Register = (parent, invoke) => {
  parent
    .command("ls")
    .alias("list")
    .summary("List sandboxes")
    .description("List sandboxes, also those whose creation was cut off or whose namespace has gone.")
    .option("-q, --quiet", "print names only")
    .option("--json", "print JSON")
    .action((flags: SandboxLsFlags, command) => invoke(command, (world) => sandboxLs(flags, world)));
};

export async function sandboxLs(flags: SandboxLsFlags, world: World): Promise<ExitCode> {
  const cached = await world.chain.cache.list();
  const rows = (await world.sandboxes.list()).map(({ attachments, ports: asked, ...sandbox }) => ({
    ...sandbox,
    ports: asked.length === 0 ? [] : publishedPortsOf(sandbox.containerId, world.journal, cached),
    attachments: attachments.map(({ network, ifName }) => ({
      network,
      ifName,
      addresses: addressesIn(
        cached.find(
          (entry) =>
            entry.containerId === sandbox.containerId && entry.network === network && entry.ifName === ifName,
        ),
      ),
    })),
  }));
  if (flags.json === true) writeJson(world.io, rows);
  else if (flags.quiet === true) world.io.stdout(rows.map(({ name }) => `${name}\n`).join(""));
  else {
    const cells = rows.map(({ name, containerId, state, attachments, ports }) => [
      name,
      containerId.slice(0, 12),
      state,
      attachments.map(({ network }) => network).join(", "),
      attachments.flatMap(({ addresses }) => addresses).join(", "),
      summarizePorts(ports),
    ]);
    world.io.stdout(renderTable(["NAME", "CONTAINER ID", "STATE", "NETWORKS", "ADDRESSES", "PORTS"], cells));
  }
  return ExitCode.Ok;
}

/** Addresses in a cached result of version 0.3.0 and newer. */
function addressesIn(cached: CachedAttachment | undefined): readonly string[] {
  const ips = cached?.result["ips"];
  if (!Array.isArray(ips)) return [];
  return (ips as readonly unknown[]).flatMap((ip) => {
    const address = isJsonObject(ip) ? ip["address"] : undefined;
    return typeof address === "string" ? [address] : [];
  });
}
