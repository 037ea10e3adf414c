import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { errorCode } from "#machine/io-error.ts";
import { withFileLock } from "#machine/lock.ts";
import { type Cidr, formatCidr, overlaps, parseCidr } from "#net/cidr.ts";
import { gather, type Register } from "./command.ts";
import { ExitCode, Failure } from "./failure.ts";
import { hostSubnets, readHostLink } from "./host-networks.ts";
import { writeJson } from "./io.ts";
import { defaultBridgeName, renderConflist } from "./network-conflist.ts";
import {
  drivers,
  type NetworkDefinition,
  parseNetworkDefinition,
  predefinedNames,
  type SubnetDefinition,
} from "./network-definition.ts";
import { listNetworks, type Network } from "./network-listing.ts";
import { defaultPools, pickSubnet, uniqueLocalSubnet } from "./subnet-pool.ts";
import type { World } from "./world.ts";

export interface NetworkCreateFlags {
  readonly driver: string;
  readonly subnet: readonly string[];
  readonly gateway: readonly string[];
  readonly ipRange: readonly string[];
  readonly opt: readonly string[];
  readonly label: readonly string[];
  readonly ipv6?: boolean;
  readonly internal?: boolean;
  readonly json?: boolean;
}

export const registerNetworkCreate: Register = (parent, invoke) => {
  parent
    .command("create")
    .summary("Create a network")
    .description(
      "Create a network: write its configuration, which every CNI runtime on this host can use at once.",
    )
    .argument("<name>", "name of the network")
    .option("-d, --driver <driver>", `one of ${drivers.join(", ")}`, "bridge")
    .option("--subnet <cidr>", "subnet of a family; may be given once for IPv4 and once for IPv6", gather, [])
    .option("--gateway <ip>", "address of the host in a subnet; the first of it by default", gather, [])
    .option("--ip-range <cidr>", "part of a subnet from which containers get addresses", gather, [])
    .option("--ipv6", "give the network an IPv6 subnet, a unique local one if none is given")
    .option("-o, --opt <key=value>", "option of the driver: docs/netctl.md", gather, [])
    .option("--label <key=value>", "note that is kept with the network", gather, [])
    .option("--internal", "no way out of the network")
    .option("--json", "print the configuration that was written")
    .action((name: string, flags: NetworkCreateFlags, command) =>
      invoke(command, (world) => networkCreate(name, flags, world)),
    );
};

/** Prints the network's name, as Docker prints its id. */
export async function networkCreate(
  name: string,
  flags: NetworkCreateFlags,
  world: World,
): Promise<ExitCode> {
  if (predefinedNames.includes(name))
    throw new Failure(`operation is not permitted on predefined ${name} network`);
  const definition = parseNetworkDefinition({
    name,
    driver: flags.driver,
    subnets: flags.subnet,
    gateways: flags.gateway,
    ipRanges: flags.ipRange,
    options: flags.opt,
    labels: flags.label,
    ipv6: flags.ipv6 === true,
    internal: flags.internal === true,
  });
  // Two at once must not pick the same subnet.
  const lock = join(world.directories.run, "locks", "networks");
  const conflist = await withFileLock(lock, () => writeNetwork(definition, world), { timeoutMs: 30_000 });
  if (flags.json === true) writeJson(world.io, conflist);
  else world.io.stdout(`${name}\n`);
  return ExitCode.Ok;
}

/** What every host-local uses that is told nothing. */
const hostLocalDefault = "/var/lib/cni/networks";

async function writeNetwork(definition: NetworkDefinition, world: World) {
  const { name } = definition;
  const others = await listNetworks(world);
  if (others.some((other) => other.name === name))
    throw new Failure(`network with name ${name} already exists`);
  const isBridge = definition.driver === "bridge";
  const conflist = renderConflist(definition, isBridge ? chooseSubnets(definition, others, world) : [], {
    createdAt: new Date().toISOString(),
    ownsBridge: isBridge && checkBridge(definition, others, world),
    ...(world.directories.leases === hostLocalDefault ? {} : { leases: world.directories.leases }),
  });
  try {
    await world.networks.create(name, conflist);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    throw new Failure(
      `Cannot create network ${name}: there is a file ${name}.conflist in ${world.directories.conf} already`,
      {
        cause: error,
      },
    );
  }
  return conflist;
}

function chooseSubnets(
  definition: NetworkDefinition,
  others: readonly Network[],
  world: World,
): readonly SubnetDefinition[] {
  const taken = others.flatMap(({ name, subnets }) =>
    subnets.flatMap(({ subnet }) => parsed(subnet).map((cidr) => ({ name, cidr }))),
  );
  const onHost = hostSubnets(world.kernel.namespace);
  for (const { subnet } of definition.subnets) {
    const rival = taken.find(({ cidr }) => overlaps(cidr, subnet));
    if (rival !== undefined) {
      throw new Failure(
        `Pool overlaps with other one on this address space: ${formatCidr(subnet)} with ${formatCidr(rival.cidr)} of network ${rival.name}`,
      );
    }
    const shadowed = onHost.find(({ cidr }) => overlaps(cidr, subnet));
    if (shadowed !== undefined) {
      world.io.stderr(
        `netctl: warning: subnet ${formatCidr(subnet)} overlaps ${formatCidr(shadowed.cidr)}, which this host reaches by ${shadowed.link}\n`,
      );
    }
  }
  const has = (family: 4 | 6) => definition.subnets.some(({ subnet }) => subnet.address.family === family);
  const used = [...taken, ...onHost].map(({ cidr }) => cidr);
  // An IPv6 subnet alone is a wish for a network without IPv4.
  const picked4 = definition.subnets.length === 0 ? [pickFree(used)] : [];
  const picked6 = definition.ipv6 && !has(6) ? [uniqueLocalSubnet(randomBytes(5))] : [];
  return [...definition.subnets, ...[...picked4, ...picked6].map((subnet) => ({ subnet }))];
}

function pickFree(used: readonly Cidr[]): Cidr {
  const subnet = pickSubnet(defaultPools, used);
  if (subnet === undefined) {
    throw new Failure(
      "all predefined address pools have been fully subnetted; give a subnet with --subnet, or remove networks",
    );
  }
  return subnet;
}

/** Whether the bridge will be the network's own. */
function checkBridge(definition: NetworkDefinition, others: readonly Network[], world: World): boolean {
  const bridge = definition.bridgeName ?? defaultBridgeName(definition.name);
  const rival = others.find(({ bridges }) => bridges.includes(bridge));
  if (rival !== undefined)
    throw new Failure(`bridge name ${bridge} is used by network ${rival.name} already`);
  const link = readHostLink(world.kernel.namespace, bridge);
  if (link !== undefined && link.kind !== "bridge") {
    throw new Failure(
      `Cannot use ${bridge} as bridge: the host has a link of that name, of kind ${link.kind ?? "none"}`,
    );
  }
  return link === undefined;
}

/** Conflists of others may hold anything: what is no subnet takes up no addresses. */
function parsed(text: string): readonly Cidr[] {
  try {
    return [parseCidr(text)];
  } catch {
    return [];
  }
}
