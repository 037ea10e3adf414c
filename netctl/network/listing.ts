import { readConfList } from "#cni/conflist.ts";
import { Failure } from "#netctl/failure.ts";
import type { World } from "#netctl/world.ts";
import { type KnownAttachment, listAttachments } from "#runtime/attachments.ts";
import { builtinNetwork } from "#runtime/builtin-networks.ts";
import { type ConfiguredNetwork, UnknownNetwork } from "#runtime/conf-dir.ts";
import { networkId } from "#runtime/network-id.ts";
import {
  bridgesOf,
  type ConfiguredSubnet,
  driverOf,
  type NetworkNotes,
  readNotes,
  readSubnets,
} from "./conflist.ts";

/** The bridge of the network `bridge`, as Docker's is docker0. */
export const defaultBridge = "netctl0";

/** A network as the commands talk of it, whoever wrote its conflist. */
export interface Network {
  readonly name: string;
  readonly id: string;
  readonly driver: string;
  readonly configured: ConfiguredNetwork;
  readonly subnets: readonly ConfiguredSubnet[];
  readonly bridges: readonly string[];
  /** Undefined for a network that netctl did not create. */
  readonly notes: NetworkNotes | undefined;
}

export function describeNetwork(configured: ConfiguredNetwork): Network {
  const plugins = configured.list.plugins.map(({ json }) => json);
  const driver = driverOf(plugins);
  const notes = readNotes(configured.list.json);
  return {
    name: configured.list.name,
    id: networkId(configured.list.name),
    driver,
    configured,
    // The plugin asks the cluster for its subnets; what the agent has written beside it says the same.
    subnets: driver === "overlay-vxlan" ? (notes?.subnets ?? []) : readSubnets(plugins),
    bridges: bridgesOf(plugins),
    notes,
  };
}

/** All networks by name; files that give none are named on stderr, and no reason to fail. */
export async function listNetworks(world: World): Promise<readonly Network[]> {
  const { networks, problems } = await world.networks.load();
  for (const { path, error } of problems) {
    world.io.stderr(`netctl: warning: passed over ${path}: ${error.message}\n`);
  }
  return networks.map(describeNetwork).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The networks that are there without a configuration: `bridge` gets one when it is used first. */
export function builtinNetworks(): readonly Network[] {
  const unmade = {
    cniVersion: "1.0.0",
    name: "bridge",
    plugins: [{ type: "bridge", bridge: defaultBridge }],
  };
  const none = { cniVersion: "1.0.0", name: "none", plugins: [{ type: "none" }] };
  const lists = [readConfList(unmade), builtinNetwork("host"), readConfList(none)];
  return lists.flatMap((list) => (list === undefined ? [] : [describeNetwork({ path: "", list })]));
}

/** Those that are configured, and those that are always there. By name. */
export async function listAllNetworks(world: World): Promise<readonly Network[]> {
  const configured = await listNetworks(world);
  const others = builtinNetworks().filter(({ name }) => !configured.some((each) => each.name === name));
  return [...configured, ...others].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * The network of that name; else the one whose id begins so.
 * @throws {UnknownNetwork} none
 * @throws {Failure} several ids begin so
 */
export async function findNetwork(world: World, nameOrId: string): Promise<Network> {
  const { networks, problems } = await world.networks.load();
  const all = networks.map(describeNetwork);
  const named = all.find(({ name }) => name === nameOrId);
  if (named !== undefined) return named;
  const matches = /^[0-9a-f]{1,64}$/.test(nameOrId) ? all.filter(({ id }) => id.startsWith(nameOrId)) : [];
  if (matches.length > 1) {
    throw new Failure(
      `network ${nameOrId} is ambiguous: ${matches.map(({ name, id }) => `${name} (${id.slice(0, 12)})`).join(", ")}`,
    );
  }
  if (matches[0] !== undefined) return matches[0];
  const names = [...all, ...builtinNetworks()].map(({ name }) => name);
  throw new UnknownNetwork(nameOrId, world.directories.conf, problems, names);
}

/** Notes for `netctl events` that a network has been created or destroyed. */
export function reportNetwork(
  action: "create" | "destroy",
  { name, driver }: Pick<Network, "name" | "driver">,
  { log }: World,
): void {
  log.event({ type: "network", action, attributes: { driver } }, { network: name });
}

/** Who is attached to a network, according to the plugins' journal and the runtime's cache. */
export async function attachmentsOf(world: World, network: string): Promise<readonly KnownAttachment[]> {
  return await listAttachments(world.journal, world.chain.cache, network);
}
