import { join } from "node:path";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import { type LeaseOwner } from "#ipam/lease-owner.ts";
import { LeaseStore } from "#ipam/lease-store.ts";
import { completeRange, excludedValues, type RangeSet, rangeFor } from "#ipam/range.ts";
import { readBootId } from "#machine/boot-id.ts";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress, parseIp } from "#net/ip.ts";
import { readRanges } from "#netctl/network/conflist.ts";
import { attachmentsOf, type Network } from "#netctl/network/listing.ts";
import type { World } from "#netctl/world.ts";
import type { KnownAttachment } from "#runtime/attachments.ts";

/**
 * What becomes of a lease: its container is there (`live`); it was recorded and its namespace is gone (`gone`); nobody
 * has a record of it (`unknown`), which an ADD that has just begun has neither (`new`); or the file names nobody
 * (`nobody`).
 */
export type LeaseState = "live" | "gone" | "unknown" | "new" | "nobody";

/** States in which an address is lost until somebody takes it back. */
export const leakedStates: readonly LeaseState[] = ["gone", "unknown", "nobody"];

export interface KnownLease {
  readonly ip: IpAddress;
  readonly owner: LeaseOwner | undefined;
  readonly state: LeaseState;
  readonly givenAtMs: number | undefined;
  /** The attachments that have it. */
  readonly attachments: readonly KnownAttachment[];
}

export interface SubnetUse {
  readonly subnet: string;
  readonly gateway: string;
  /** Addresses that containers can have; those of a /64 are too many to be exact in JSON. */
  readonly capacity: bigint;
  readonly used: bigint;
  readonly leaked: number;
}

/** A network whose addresses host-local gives out. */
export interface AddressUse {
  readonly network: Network;
  readonly store: LeaseStore;
  readonly sets: readonly RangeSet[];
  readonly leases: readonly KnownLease[];
}

/** Younger leases without a record may be of an ADD that is under way. */
export const defaultGraceMs = 5 * 60_000;

/** Undefined for a network whose addresses are none of host-local's. */
export async function readAddressUse(
  network: Network,
  world: World,
  graceMs = defaultGraceMs,
): Promise<AddressUse | undefined> {
  const plugins = network.configured.list.plugins.map(({ json }) => json);
  const dataDir = dataDirOf(plugins, world.directories.leases);
  if (dataDir === undefined) return undefined;
  const store = new LeaseStore({ dataDir, network: network.name, bootId: readBootId() });
  const attachments = await attachmentsOf(world, network.name);
  const youngMs = Date.now() - graceMs;
  const leases = store.leases.addresses().map((ip): KnownLease => {
    const owner = store.leases.ownerOf(ip);
    const givenAtMs = store.leases.givenAtMs(ip);
    const its = owner === undefined ? [] : attachments.filter((each) => isOf(each, owner));
    return { ip, owner, givenAtMs, attachments: its, state: stateOf(owner, its, (givenAtMs ?? 0) > youngMs) };
  });
  return { network, store, sets: setsOf(plugins), leases: leases.toSorted(byAddress) };
}

function byAddress(a: KnownLease, b: KnownLease): number {
  if (a.ip.family !== b.ip.family) return a.ip.family - b.ip.family;
  return a.ip.value < b.ip.value ? -1 : 1;
}

function isOf(attachment: KnownAttachment, { containerId, ifName }: LeaseOwner): boolean {
  return attachment.containerId === containerId && (ifName === undefined || attachment.ifName === ifName);
}

function stateOf(
  owner: LeaseOwner | undefined,
  attachments: readonly KnownAttachment[],
  isYoung: boolean,
): LeaseState {
  if (owner === undefined) return isYoung ? "new" : "nobody";
  if (attachments.some(({ isAlive }) => isAlive)) return "live";
  if (attachments.length > 0 && attachments.every(({ netns }) => netns !== "")) return "gone";
  return isYoung ? "new" : "unknown";
}

/** Where host-local keeps the leases of a chain; undefined if no plugin of it uses host-local. */
function dataDirOf(plugins: readonly JsonObject[], defaultDirectory: string): string | undefined {
  const ipam = plugins
    .map((plugin) => field(plugin, "ipam"))
    .filter(isJsonObject)
    .find((candidate) => field(candidate, "type") === "host-local");
  if (ipam === undefined) return undefined;
  const dataDir = field(ipam, "dataDir");
  return typeof dataDir === "string" && dataDir !== "" ? join("/", dataDir) : defaultDirectory;
}

/** One set for each subnet; what host-local would refuse is left out. */
function setsOf(plugins: readonly JsonObject[]): readonly RangeSet[] {
  const sets = new Map<string, RangeSet>();
  for (const { subnet, gateway, rangeStart, rangeEnd } of readRanges(plugins)) {
    try {
      const range = completeRange({
        subnet: parseCidr(subnet),
        gateway: optionalIp(gateway),
        rangeStart: optionalIp(rangeStart),
        rangeEnd: optionalIp(rangeEnd),
      });
      const key = formatCidr(range.subnet);
      sets.set(key, [...(sets.get(key) ?? []), range]);
    } catch {
      // An ADD says what is wrong with it.
    }
  }
  return [...sets.values()];
}

function optionalIp(text: string | undefined): IpAddress | undefined {
  return text === undefined || text === "" ? undefined : parseIp(text);
}

/** Capacity and use of each subnet of a network. */
export function measureSubnets({ sets, leases }: AddressUse): readonly SubnetUse[] {
  return sets.flatMap((set) => {
    const [first] = set;
    if (first === undefined) return [];
    const excluded = excludedValues(set);
    const isInside = (ip: IpAddress) => rangeFor(set, ip) !== undefined;
    const { family } = first.subnet.address;
    const inside = [...excluded].filter((value) => isInside({ family, value }));
    const size = set.reduce((sum, { start, end }) => sum + end.value - start.value + 1n, 0n);
    const given = leases.filter(({ ip }) => isInside(ip) && !excluded.has(ip.value));
    return [
      {
        subnet: formatCidr(first.subnet),
        gateway: formatIp(first.gateway),
        capacity: size - BigInt(inside.length),
        used: BigInt(given.length),
        leaked: given.filter(({ state }) => leakedStates.includes(state)).length,
      },
    ];
  });
}

/** A count for JSON: the greatest number that is exact there stands for all that are greater. */
export function jsonCount(count: bigint): number {
  return count > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(count);
}
