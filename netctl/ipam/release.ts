import { emptyTrash } from "#machine/trash.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import type { Register } from "#netctl/command.ts";
import { describeError, ExitCode, Failure, UsageFailure } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { findNetwork } from "#netctl/network/listing.ts";
import type { World } from "#netctl/world.ts";
import { type KnownLease, readAddressUse } from "./address-use.ts";

export interface IpamReleaseFlags {
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export const registerIpamRelease: Register = (parent, invoke) => {
  parent
    .command("release")
    .summary("Take addresses back by hand")
    .description(
      "Take addresses back, so that others can get them. Refuses one whose container is there: two would have it.",
    )
    .argument("<network>", "name or id of the network")
    .argument("<address...>", "addresses to take back")
    .option("-f, --force", "also from a container that is there")
    .option("-n, --dry-run", "only say which ones, and refuse what would be refused")
    .option("--json", "print the addresses that were taken back as JSON")
    .addHelpText("after", "\nExample:\n  netctl ipam release web 10.77.0.9")
    .action((network: string, addresses: readonly string[], flags: IpamReleaseFlags, command) =>
      invoke(command, (world) => ipamRelease(network, addresses, flags, world)),
    );
};

/** Prints each address that was taken back; goes on past those that could not be. */
export async function ipamRelease(
  name: string,
  addresses: readonly string[],
  flags: IpamReleaseFlags,
  world: World,
): Promise<ExitCode> {
  const wanted = addresses.map((text) => {
    try {
      return parseIp(text);
    } catch (error) {
      throw new UsageFailure(describeError(error), { cause: error });
    }
  });
  const network = await findNetwork(world, name);
  const use = await readAddressUse(network, world, 0);
  if (use === undefined) {
    throw new Failure(
      `Cannot release addresses of network ${network.name}: host-local does not give them out`,
    );
  }
  const released: string[] = [];
  let exitCode: ExitCode = ExitCode.Ok;
  for (const ip of wanted) {
    const text = formatIp(ip);
    const lease = use.leases.find((each) => formatIp(each.ip) === text);
    const problem = lease === undefined ? "nobody has it" : refusal(lease, flags.force === true);
    if (lease === undefined || problem !== undefined) {
      world.io.stderr(`netctl: Cannot release ${text} of network ${network.name}: ${problem}\n`);
      exitCode = ExitCode.Failure;
      continue;
    }
    if (flags.dryRun === true) {
      released.push(text);
      continue;
    }
    if (lease.owner === undefined) await use.store.sweep();
    else await use.store.releaseAddress(ip, lease.owner);
    released.push(text);
  }
  await emptyTrash();
  if (flags.json === true) writeJson(world.io, released);
  else world.io.stdout(released.map((text) => `${text}\n`).join(""));
  return exitCode;
}

function refusal({ state, owner }: KnownLease, force: boolean): string | undefined {
  if (state !== "live" || force) return undefined;
  const ifName = owner?.ifName === undefined ? "" : ` (${owner.ifName})`;
  return `container ${owner?.containerId ?? ""}${ifName} has it and is there; --force takes it all the same`;
}
