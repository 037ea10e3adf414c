import { setTimeout as sleep } from "node:timers/promises";
import { type Cidr, formatCidr } from "#net/cidr.ts";
import { ipBits } from "#net/ip.ts";
import { withCluster } from "#netctl/cluster.ts";
import { UsageFailure } from "#netctl/failure.ts";
import type { World } from "#netctl/world.ts";
import type { NetworkRecord } from "#overlay/record.ts";
import type { NetworkCreateFlags } from "./create.ts";
import { requireNetworkName } from "./definition.ts";
import { listNetworks } from "./listing.ts";
import { refuseTaken, subnetsOfHost, subnetsOfNetworks, warnOfShadow } from "./subnet-choice.ts";
import { chooseFamilies, isSizeOnly, parseSubnets } from "./subnets.ts";

/** How long to wait until the agent of this host knows of a network, or has forgotten it. */
const agentTimeoutMs = 10_000;

/** Creates a network that reaches over all hosts of the cluster. Its conflist appears on each of them. */
export async function createOverlayNetwork(
  name: string,
  flags: NetworkCreateFlags,
  world: World,
): Promise<NetworkRecord> {
  requireNetworkName(name);
  refuseOthersFlags(flags);
  const options = parseOptions(flags.opt);
  const asked = parseSubnets({ subnets: flags.subnet, gateways: [], ipRanges: [], auxAddresses: [] });
  const { ipv4, ipv6 } = chooseFamilies(asked, { ipv4: flags.ipv4, ipv6: flags.ipv6 === true });
  const subnets = asked.map(({ subnet }) => subnet);
  refuseSmall(subnets);
  const onHost = await subnetsOfHost(world);
  const others = (await listNetworks(world)).filter(({ driver }) => driver !== "overlay-vxlan");
  for (const subnet of subnets) refuseTaken(subnet, subnetsOfNetworks(others));
  const record = await withCluster(
    world,
    async (cluster) =>
      await cluster.createNetwork({
        name,
        subnets: subnets.map((cidr) => ({ cidr })),
        families: [...(ipv4 ? [4 as const] : []), ...(ipv6 ? [6 as const] : [])],
        avoid: [...onHost, ...subnetsOfNetworks(others)].map(({ cidr }) => cidr),
        internal: flags.internal === true,
        encrypted: false,
        mode: "l3",
        ...options,
        names: flags.disableDns === true ? "none" : (options.names ?? "cluster"),
      }),
  );
  for (const subnet of subnets) warnOfShadow(subnet, onHost, world);
  await untilConflist(world, name, true);
  return record;
}

/** Flags of other drivers, rather than to pass over them. @throws {UsageFailure} */
function refuseOthersFlags(flags: NetworkCreateFlags): void {
  const blocks = "each host is the gateway of blocks of its own";
  const { scope = "swarm", ipamDriver = "default" } = flags;
  const refused = [
    ...flags.gateway.map((text) => [`--gateway ${text}`, blocks]),
    ...flags.ipRange.map((text) => [`--ip-range ${text}`, blocks]),
    ...flags.auxAddress.map((text) => [`--aux-address ${text}`, blocks]),
    ...flags.label.map((text) => [`--label ${text}`, "the cluster keeps no labels"]),
    ...(ipamDriver === "default" ? [] : [[`--ipam-driver ${ipamDriver}`, "hosts get blocks of the subnet"]]),
    ...(scope === "swarm" ? [] : [[`--scope ${scope}`, "the network is on all hosts"]]),
  ];
  const [first] = refused;
  if (first) throw new UsageFailure(`Cannot use ${first[0]} with driver overlay-vxlan: ${first[1]}`);
}

/** The smallest block has eight addresses, of which a host needs four. @throws {UsageFailure} */
function refuseSmall(subnets: readonly Cidr[]): void {
  for (const subnet of subnets) {
    if (isSizeOnly(subnet))
      throw new UsageFailure(
        `Cannot use --subnet ${formatCidr(subnet)} with driver overlay-vxlan: the cluster's pools say how large a subnet is`,
      );
    const longest = ipBits(subnet.address.family) - 3;
    if (subnet.prefixLength > longest)
      throw new UsageFailure(
        `Cannot use --subnet ${formatCidr(subnet)} with driver overlay-vxlan: a host's block has at least eight addresses, so a prefix length of at most ${longest} is needed`,
      );
  }
}

/** @returns hosts that still have containers in it */
export async function removeOverlayNetwork(name: string, world: World): Promise<readonly string[]> {
  return await withCluster(world, async (cluster) => {
    const deadlineMs = performance.now() + agentTimeoutMs;
    for (;;) {
      const holders = await cluster.removeNetwork(name).catch((error: unknown) => {
        // An agent was faster.
        if (error instanceof Error && error.message.startsWith("No such network")) return [];
        throw error;
      });
      if (holders.length === 0) {
        await untilConflist(world, name, false);
        return [];
      }
      if (performance.now() > deadlineMs) return holders;
      await sleep(200);
    }
  });
}

interface OverlayOptions {
  readonly encrypted?: boolean;
  readonly mode?: "l3" | "l2";
  readonly vni?: number;
  readonly mtu?: number;
  readonly names?: "host" | "cluster";
}

function parseOptions(texts: readonly string[]): OverlayOptions {
  return Object.assign({}, ...texts.map(parseOption)) as OverlayOptions;
}

function parseOption(text: string): OverlayOptions {
  const [key = "", value = ""] = text.split("=", 2);
  switch (key) {
    case "encrypted":
      return { encrypted: parseYesNo(key, value) };
    case "mode":
      if (value !== "l3" && value !== "l2") throw new UsageFailure(`Cannot use ${text}: expected l3 or l2`);
      return { mode: value };
    case "vni":
      return { vni: parseNumber(text, value, 1, 0xffffff) };
    case "mtu":
    case "com.docker.network.driver.mtu":
      return { mtu: parseNumber(text, value, 1280, 65_535) };
    case "names":
      if (value !== "host" && value !== "cluster")
        throw new UsageFailure(`Cannot use ${text}: expected host or cluster`);
      return { names: value };
  }
  throw new UsageFailure(
    `Cannot use option ${JSON.stringify(key)} with driver overlay-vxlan: expected encrypted, mode, mtu, names or vni`,
  );
}

function parseNumber(text: string, value: string, min: number, max: number): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < min || number > max)
    throw new UsageFailure(`Cannot use ${text}: expected ${min} to ${max}`);
  return number;
}

/** Docker's way: the option alone means yes. */
function parseYesNo(key: string, value: string): boolean {
  if (value === "" || value === "true") return true;
  if (value === "false") return false;
  throw new UsageFailure(`Cannot use ${key}=${value}: expected true or false`);
}

async function untilConflist(world: World, name: string, isThere: boolean): Promise<void> {
  const deadlineMs = performance.now() + agentTimeoutMs;
  while (performance.now() < deadlineMs) {
    const { networks } = await world.networks.load();
    if (networks.some(({ list }) => list.name === name) === isThere) return;
    await sleep(100);
  }
  world.io.stderr(
    `netctl: warning: this host's agent has not ${isThere ? "taken up" : "dropped"} network ${name} yet; is netd running?\n`,
  );
}
