import { join } from "node:path";
import { errorCode } from "#machine/io-error.ts";
import { withFileLock } from "#machine/lock.ts";
import { gather, type Register } from "#netctl/command.ts";
import { ExitCode, Failure, UsageFailure } from "#netctl/failure.ts";
import { readHostLink } from "#netctl/host-networks.ts";
import { writeJson } from "#netctl/io.ts";
import type { World } from "#netctl/world.ts";
import { formatRecord } from "#overlay/record.ts";
import { defaultBridgeName, renderConflist } from "./conflist.ts";
import { drivers, type NetworkDefinition, parseNetworkDefinition, predefinedNames } from "./definition.ts";
import { listNetworks, type Network, reportNetwork } from "./listing.ts";
import { createOverlayNetwork } from "./overlay.ts";
import { chooseSubnets } from "./subnet-choice.ts";
import { isWireDriver, requireParent } from "./wire.ts";

export interface NetworkCreateFlags {
  readonly driver: string;
  readonly subnet: readonly string[];
  readonly gateway: readonly string[];
  readonly ipRange: readonly string[];
  readonly auxAddress: readonly string[];
  readonly opt: readonly string[];
  readonly label: readonly string[];
  readonly ipv4: boolean;
  readonly ipv6?: boolean;
  readonly internal?: boolean;
  readonly disableDns?: boolean;
  readonly scope?: string;
  readonly ipamDriver?: string;
  readonly dryRun?: boolean;
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
    .option(
      "-d, --driver <driver>",
      `one of ${[...drivers, "overlay-vxlan"].join(", ")}; overlay is the last`,
      "bridge",
    )
    .option("--subnet <cidr>", "subnet of a family; may be given once for IPv4 and once for IPv6", gather, [])
    .option("--gateway <ip>", "address of the host in a subnet; the first of it by default", gather, [])
    .option("--ip-range <cidr>", "part of a subnet from which containers get addresses", gather, [])
    .option("--aux-address <name=ip>", "address of a subnet that no container gets", gather, [])
    .option("--no-ipv4", "no IPv4 subnet; needs --ipv6")
    .option("--ipv6", "give the network an IPv6 subnet, a unique local one if none is given")
    .option("-o, --opt <key=value>", "option of the driver: docs/networks.md", gather, [])
    .option("--label <key=value>", "note that is kept with the network", gather, [])
    .option("--internal", "no way out of the network, and none in")
    .option("--disable-dns", "containers don't find each other by name")
    .option("--attachable", "taken for Docker's sake: every network is")
    .option("--scope <scope>", "taken for Docker's sake: local")
    .option("--ipam-driver <driver>", "default; of macvlan and ipvlan also dhcp and none")
    .option("-n, --dry-run", "only print the configuration that would be written")
    .option("--json", "print the configuration that was written")
    .addHelpText(
      "after",
      `
Examples:
  netctl network create web
  netctl network create web --subnet 10.77.0.0/24 --gateway 10.77.0.254 --ip-range 10.77.0.128/25
  netctl network create web --ipv6 -o com.docker.network.driver.mtu=1400
  netctl network create database --internal --label tier=data
  netctl network create -d macvlan -o parent=eth0.10 --subnet 192.168.10.0/24 --gateway 192.168.10.1 iot
  netctl network create -d macvlan -o parent=eth0 --ipam-driver dhcp home
  netctl network create lan -o gateway_mode_ipv4=routed -o icc=false`,
    )
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
  if (flags.driver === "overlay-vxlan" || flags.driver === "overlay") {
    if (flags.dryRun === true)
      throw new UsageFailure(
        "Cannot use --dry-run with driver overlay-vxlan: the cluster chooses the subnet",
      );
    const record = await createOverlayNetwork(name, flags, world);
    reportNetwork("create", { name, driver: "overlay-vxlan" }, world);
    if (flags.json === true) writeJson(world.io, JSON.parse(formatRecord(record)));
    else world.io.stdout(`${name}\n`);
    return ExitCode.Ok;
  }
  refuseForeign(flags);
  const { networkOptions } = await world.settings();
  const definition = parseNetworkDefinition({
    name,
    driver: flags.driver,
    subnets: flags.subnet,
    gateways: flags.gateway,
    ipRanges: flags.ipRange,
    auxAddresses: flags.auxAddress,
    options: flags.opt,
    defaultOptions: networkOptions[flags.driver] ?? {},
    labels: flags.label,
    ipv4: flags.ipv4,
    ipv6: flags.ipv6 === true,
    internal: flags.internal === true,
    ...(flags.disableDns === true ? { disableDns: true } : {}),
    ...(flags.ipamDriver === undefined ? {} : { ipamDriver: flags.ipamDriver }),
  });
  const { dryRun = false } = flags;
  const conflist = await createNetwork(definition, world, { dryRun });
  if (flags.json === true || dryRun) writeJson(world.io, conflist);
  else world.io.stdout(`${name}\n`);
  return ExitCode.Ok;
}

/** Of flags that Docker has and netctl needs not, what can't be meant here. */
function refuseForeign({ driver, scope = "local", ipamDriver = "default" }: NetworkCreateFlags): void {
  if (scope !== "local") throw new UsageFailure(`Cannot use --scope ${scope}: networks are of this host`);
  if (isWireDriver(driver)) return;
  if (ipamDriver !== "default" && ipamDriver !== "host-local") {
    throw new UsageFailure(`Cannot use --ipam-driver ${ipamDriver}: expected default or host-local`);
  }
}

/**
 * Writes a network, with subnets that are free now.
 * @param options.dryRun looks, and writes nothing
 * @returns the conflist
 * @throws {Failure}
 */
export async function createNetwork(
  definition: NetworkDefinition,
  world: World,
  options: { readonly dryRun?: boolean } = {},
) {
  if (options.dryRun === true) return await renderNetwork(definition, world);
  // Two at once must not pick the same subnet.
  const lock = join(world.directories.run, "locks", "networks");
  return await withFileLock(lock, () => writeNetwork(definition, world), { timeoutMs: 30_000 });
}

/** What every host-local uses that is told nothing. */
const hostLocalDefault = "/var/lib/cni/networks";

async function renderNetwork(definition: NetworkDefinition, world: World) {
  const { name } = definition;
  const others = await listNetworks(world);
  if (others.some((other) => other.name === name))
    throw new Failure(`network with name ${name} already exists`);
  const isBridge = definition.driver === "bridge";
  const { wire } = definition;
  if (wire !== undefined) requireParent(wire, world);
  const hasSubnets = isBridge || wire?.ipam === "host-local";
  const subnets = hasSubnets ? await chooseSubnets(definition, others, world) : [];
  return renderConflist(definition, subnets, {
    createdAt: new Date().toISOString(),
    ownsBridge: isBridge && checkBridge(definition, others, world),
    ...(world.directories.leases === hostLocalDefault ? {} : { leases: world.directories.leases }),
  });
}

async function writeNetwork(definition: NetworkDefinition, world: World) {
  const { name } = definition;
  const conflist = await renderNetwork(definition, world);
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
  reportNetwork("create", { name, driver: definition.driver }, world);
  return conflist;
}

/** Whether the bridge will be the network's own. */
function checkBridge(definition: NetworkDefinition, others: readonly Network[], world: World): boolean {
  const bridge = definition.settings.bridgeName ?? defaultBridgeName(definition.name);
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
