import { formatCidr } from "#net/cidr.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { listNetworks } from "#netctl/network/listing.ts";
import { subnetsOfHost, subnetsOfNetworks } from "#netctl/network/subnet-choice.ts";
import { measurePool } from "#netctl/network/subnet-pool.ts";
import { renderTable } from "#netctl/table.ts";
import type { World } from "#netctl/world.ts";
import { type AddressUse, jsonCount, measureSubnets, readAddressUse } from "./address-use.ts";

export interface IpamLsFlags {
  readonly json?: boolean;
}

export const registerIpamLs: Register = (parent, invoke) => {
  parent
    .command("ls")
    .alias("list")
    .summary("Show address pools and networks, and how full they are")
    .description(
      "Show the pools from which networks get their subnets, the subnets of networks, and how many of their addresses are used or leaked.",
    )
    .option("--json", "print JSON; numbers above 9007199254740991 are printed as that")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl ipam ls\n  netctl ipam ls --json | jq '.networks[] | select(.leaked > 0)'",
    )
    .action((flags: IpamLsFlags, command) => invoke(command, (world) => ipamLs(flags, world)));
};

export async function ipamLs(flags: IpamLsFlags, world: World): Promise<ExitCode> {
  const networks = await listNetworks(world);
  const { pools } = await world.settings();
  const taken = [...subnetsOfNetworks(networks), ...(await subnetsOfHost(world))].map(({ cidr }) => cidr);
  const poolRows = pools.map((pool) => {
    const { total, used } = measurePool(pool, taken);
    return { base: formatCidr(pool.base), size: pool.size, subnets: total, used, free: total - used };
  });
  const uses = await Promise.all(networks.map((network) => readAddressUse(network, world)));
  const rows = uses
    .filter((use): use is AddressUse => use !== undefined)
    .flatMap((use) => measureSubnets(use).map((subnet) => ({ network: use.network.name, ...subnet })));
  if (flags.json === true) {
    writeJson(world.io, {
      pools: poolRows.map(({ base, size, subnets, used, free }) => ({
        base,
        size,
        subnets: jsonCount(subnets),
        used: jsonCount(used),
        free: jsonCount(free),
      })),
      networks: rows.map(({ network, subnet, gateway, capacity, used, leaked }) => ({
        network,
        subnet,
        gateway,
        capacity: jsonCount(capacity),
        used: jsonCount(used),
        free: jsonCount(capacity - used),
        leaked,
      })),
    });
    return ExitCode.Ok;
  }
  const poolCells = poolRows.map(({ base, size, subnets, used, free }) => [
    base,
    `/${size}`,
    String(subnets),
    String(used),
    String(free),
  ]);
  world.io.stdout(renderTable(["POOL", "PIECES", "SUBNETS", "USED", "FREE"], poolCells));
  const cells = rows.map(({ network, subnet, capacity, used, leaked }) => [
    network,
    subnet,
    String(capacity),
    String(used),
    String(capacity - used),
    String(leaked),
  ]);
  world.io.stdout(`\n${renderTable(["NETWORK", "SUBNET", "ADDRESSES", "USED", "FREE", "LEAKED"], cells)}`);
  if (rows.some(({ leaked }) => leaked > 0)) {
    world.io.stderr('netctl: "netctl ipam gc" takes leaked addresses back\n');
  }
  return ExitCode.Ok;
}
