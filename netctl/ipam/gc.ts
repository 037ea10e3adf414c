import { emptyTrash } from "#machine/trash.ts";
import { formatIp } from "#net/ip.ts";
import type { Register } from "#netctl/command.ts";
import { parseDuration } from "#netctl/duration.ts";
import { describeError, ExitCode } from "#netctl/failure.ts";
import { forgetAttachment } from "#netctl/forget-attachment.ts";
import { writeJson } from "#netctl/io.ts";
import { findNetwork, listNetworks } from "#netctl/network/listing.ts";
import { renderTable } from "#netctl/table.ts";
import type { World } from "#netctl/world.ts";
import { type AddressUse, defaultGraceMs, leakedStates, readAddressUse } from "./address-use.ts";

export interface IpamGcFlags {
  readonly dryRun?: boolean;
  readonly olderThan?: string;
  readonly json?: boolean;
}

export const registerIpamGc: Register = (parent, invoke) => {
  parent
    .command("gc")
    .summary("Take leaked addresses back")
    .description(
      "Take back the addresses of containers that are gone, with everything else that their attachment left, and those of which nobody has a record.",
    )
    .argument("[network...]", "networks; all if left out")
    .option("-n, --dry-run", "only say what would be taken back")
    .option("--older-than <time>", "spare younger addresses of which nobody has a record: 30s, 5m, 1h", "5m")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExamples:\n  netctl ipam gc --dry-run\n  netctl ipam gc web --older-than 0s")
    .action((networks: readonly string[], flags: IpamGcFlags, command) =>
      invoke(command, (world) => ipamGc(networks, flags, world)),
    );
};

interface Leak {
  readonly network: string;
  readonly address: string;
  readonly state: string;
  readonly containerId: string;
  readonly ifName: string;
}

export async function ipamGc(names: readonly string[], flags: IpamGcFlags, world: World): Promise<ExitCode> {
  const graceMs =
    flags.olderThan === undefined
      ? defaultGraceMs
      : parseDuration(flags.olderThan, `--older-than ${flags.olderThan}`);
  const networks =
    names.length === 0
      ? await listNetworks(world)
      : await Promise.all(names.map((name) => findNetwork(world, name)));
  const leaks: Leak[] = [];
  let exitCode: ExitCode = ExitCode.Ok;
  for (const network of networks) {
    const use = await readAddressUse(network, world, graceMs);
    if (use === undefined) continue;
    const found = leaksOf(use);
    if (flags.dryRun === true) {
      leaks.push(...found);
      continue;
    }
    const { taken, failures } = await collect(use, world);
    leaks.push(...found.filter(({ address }) => taken.has(address)));
    for (const failure of failures) world.io.stderr(`netctl: ${describeError(failure)}\n`);
    if (failures.length > 0) exitCode = ExitCode.Failure;
  }
  if (flags.json === true) writeJson(world.io, leaks);
  else if (leaks.length > 0) {
    const cells = leaks.map(({ network, address, state, containerId, ifName }) => [
      network,
      address,
      state,
      containerId.slice(0, 12),
      ifName,
    ]);
    world.io.stdout(renderTable(["NETWORK", "ADDRESS", "STATE", "CONTAINER", "INTERFACE"], cells));
  }
  return exitCode;
}

function leaksOf({ network, leases }: AddressUse): readonly Leak[] {
  return leases
    .filter(({ state }) => leakedStates.includes(state))
    .map(({ ip, state, owner }) => ({
      network: network.name,
      address: formatIp(ip),
      state,
      containerId: owner?.containerId ?? "",
      ifName: owner?.ifName ?? "",
    }));
}

/**
 * What is recorded is detached whole: rules that lead to the address would else serve whoever gets it next. What is
 * not is given back as it is.
 */
async function collect(use: AddressUse, world: World) {
  const failures: unknown[] = [];
  const taken = new Set<string>();
  for (const { ip, owner, state, attachments } of use.leases) {
    if (!leakedStates.includes(state)) continue;
    try {
      for (const attachment of attachments) await forgetAttachment(use.network, attachment, world);
      if (owner === undefined) await use.store.sweep();
      else await use.store.releaseAddress(ip, owner);
      taken.add(formatIp(ip));
    } catch (error) {
      failures.push(error);
    }
  }
  await emptyTrash();
  return { taken, failures };
}
