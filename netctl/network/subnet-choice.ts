import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type Cidr, formatCidr, hostCidr, overlaps, parseCidr } from "#net/cidr.ts";
import { isLoopback, tryParseIp } from "#net/ip.ts";
import { Failure } from "#netctl/failure.ts";
import { hostSubnets } from "#netctl/host-networks.ts";
import type { World } from "#netctl/world.ts";
import type { NetworkDefinition } from "./definition.ts";
import type { Network } from "./listing.ts";
import { pickSubnet, type SubnetPool, uniqueLocalSubnet } from "./subnet-pool.ts";
import { isSizeOnly, type SubnetDefinition } from "./subnets.ts";

/** Address space that is somebody's, and whose. */
export interface UsedSubnet {
  readonly cidr: Cidr;
  readonly by: string;
}

/** What networks are configured with, whoever wrote them. */
export function subnetsOfNetworks(
  networks: readonly Pick<Network, "name" | "subnets">[],
): readonly UsedSubnet[] {
  return networks.flatMap(({ name, subnets }) =>
    subnets.flatMap(({ subnet }) => parsed(subnet).map((cidr) => ({ cidr, by: `network ${name}` }))),
  );
}

/** What the host reaches otherwise: its addresses and routes, and its name servers. */
export async function subnetsOfHost(world: World): Promise<readonly UsedSubnet[]> {
  const routed = hostSubnets(world.kernel.namespace).map(({ cidr, link }) => ({ cidr, by: link }));
  return [...routed, ...(await nameServers())];
}

/**
 * The subnets of a new network: those that were asked for, and from the pools what is missing.
 * @throws {Failure} one is another network's, or the pools are exhausted
 */
export async function chooseSubnets(
  definition: NetworkDefinition,
  others: readonly Network[],
  world: World,
): Promise<readonly SubnetDefinition[]> {
  const taken = subnetsOfNetworks(others);
  const onHost = await subnetsOfHost(world);
  const asked = definition.subnets.filter(({ subnet }) => !isSizeOnly(subnet));
  for (const { subnet } of asked) refuseTaken(subnet, taken);
  // On a wire, the host is there as well.
  for (const { subnet } of definition.wire === undefined ? asked : []) warnOfShadow(subnet, onHost, world);
  const used = [...taken, ...onHost].map(({ cidr }) => cidr);
  const { pools } = await world.settings();
  const wanted = ([4, 6] as const).filter((family) => (family === 4 ? definition.ipv4 : definition.ipv6));
  return wanted.map((family) => {
    const found = definition.subnets.find(({ subnet }) => subnet.address.family === family);
    if (found !== undefined && !isSizeOnly(found.subnet)) return found;
    const subnet = pickFree(pools, used, family, found?.subnet.prefixLength);
    return { subnet, aux: {} };
  });
}

/** @throws {Failure} naming whose it is */
export function refuseTaken(subnet: Cidr, taken: readonly UsedSubnet[]): void {
  const rival = taken.find(({ cidr }) => overlaps(cidr, subnet));
  if (rival === undefined) return;
  throw new Failure(
    `Pool overlaps with other one on this address space: ${formatCidr(subnet)} with ${formatCidr(rival.cidr)} of ${rival.by}`,
  );
}

/** What the host reaches otherwise, it will look for in the new network. */
export function warnOfShadow(subnet: Cidr, onHost: readonly UsedSubnet[], { io }: Pick<World, "io">): void {
  const shadowed = onHost.find(({ cidr }) => overlaps(cidr, subnet));
  if (shadowed === undefined) return;
  io.stderr(
    `netctl: warning: subnet ${formatCidr(subnet)} overlaps ${formatCidr(shadowed.cidr)}, which this host reaches by ${shadowed.by}\n`,
  );
}

/** More tries than two of a million networks of random prefixes need. */
const maxRandomTries = 32;

function pickFree(pools: readonly SubnetPool[], used: readonly Cidr[], family: 4 | 6, size?: number): Cidr {
  const own = pools.filter(({ base }) => base.address.family === family);
  const subnet = own.length === 0 ? pickUniqueLocal(used, size) : pickSubnet(own, used, size);
  if (subnet === undefined) {
    const what = size === undefined ? "" : ` for a subnet of /${size}`;
    throw new Failure(
      `all predefined address pools have been fully subnetted${what}; give a subnet with --subnet, remove networks ("netctl network prune"), or configure more pools: docs/addresses.md`,
    );
  }
  return subnet;
}

function pickUniqueLocal(used: readonly Cidr[], size = 64): Cidr | undefined {
  for (let tried = 0; tried < maxRandomTries; tried++) {
    const { address } = uniqueLocalSubnet(randomBytes(5));
    const candidate = pickSubnet([{ base: { address, prefixLength: 48 }, size: Math.max(size, 48) }], used);
    if (candidate !== undefined) return candidate;
  }
  return undefined;
}

/** A network on top of them would leave the host without names. Docker keeps off them as well. */
async function nameServers(): Promise<readonly UsedSubnet[]> {
  const text = await readFile("/etc/resolv.conf", "utf8").catch(() => "");
  return [...text.matchAll(/^\s*nameserver\s+([0-9a-fA-F.:]+)\s*$/gm)].flatMap(([, address = ""]) => {
    const ip = tryParseIp(address);
    return ip === undefined || isLoopback(ip) ? [] : [{ cidr: hostCidr(ip), by: "/etc/resolv.conf" }];
  });
}

/** Conflists of others may hold anything: what is no subnet takes up no addresses. */
function parsed(text: string): readonly Cidr[] {
  try {
    return [parseCidr(text)];
  } catch {
    return [];
  }
}
