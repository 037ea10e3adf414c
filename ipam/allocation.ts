import { CniError, ErrorCode } from "#cni/error.ts";
import { isSameNamespace, type RecordedNamespace } from "#machine/namespace-identity.ts";
import { addToIp, equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import type { LeaseDirectory } from "./lease-directory.ts";
import { formatLease, type LeaseOwner, ownerName } from "./lease-owner.ts";
import type { OwnerIndex, OwnerRecord } from "./owner-index.ts";
import { type Candidate, candidates } from "./pool.ts";
import {
  type AddressRange,
  commonRanges,
  excludedValues,
  formatRangeSet,
  type RangeSet,
  rangeFor,
} from "./range.ts";

/** What one range set is going to give; nothing is written yet. */
export interface Choice extends Candidate {
  readonly setIndex: number;
  /** The record that has the address so far, of the same owner or of an earlier boot. */
  readonly from?: OwnerRecord;
  /** True if the owner has the lease already and keeps it. */
  readonly isKept: boolean;
}

/** How many addresses are tried one by one before the directory is listed. */
const directProbes = 64;

/** Everything a choice depends on, read under the lock of the leases, with the index up to date. */
export interface AllocationContext {
  readonly leases: LeaseDirectory;
  readonly index: OwnerIndex;
  readonly owner: LeaseOwner;
  readonly netns?: RecordedNamespace;
}

/** The leases that an owner has, as far as its records say and the lease files confirm. */
export interface OwnLeases {
  /** Its records as they are. */
  readonly records: readonly OwnerRecord[];
  /** Of this very attachment. */
  readonly live: readonly IpAddress[];
  /** Of a namespace that is gone: they can be taken over. */
  readonly dead: readonly { readonly ip: IpAddress; readonly record: OwnerRecord }[];
}

/**
 * Tells leases of this attachment from those that it has from before a reboot or a restart under the same name. What
 * somebody else has recorded counts as live, since nothing is known of its namespace.
 */
export function readOwnLeases({ leases, index, owner, netns }: AllocationContext): OwnLeases {
  const live: IpAddress[] = [];
  const dead: { ip: IpAddress; record: OwnerRecord }[] = [];
  const records = index.find(ownerName(owner));
  for (const record of records) {
    const isDead = index.isEarlier(record) || (!index.isForeign(record) && isOther(record.netns, netns));
    for (const ip of record.addresses) {
      if (!leases.isOwnedBy(ip, owner)) continue;
      if (isDead) dead.push({ ip, record });
      else live.push(ip);
    }
  }
  // Versions of the reference before 0.7 did not say which interface of the container it is.
  const container: LeaseOwner = { containerId: owner.containerId };
  for (const ip of index.findForeign(ownerName(container))?.addresses ?? []) {
    if (leases.isOwnedBy(ip, container)) live.push(ip);
  }
  return { records, live, dead };
}

function isOther(recorded: RecordedNamespace | undefined, asked: RecordedNamespace | undefined): boolean {
  return recorded !== undefined && asked !== undefined && !isSameNamespace(recorded, asked);
}

/**
 * Chooses the address that a range set gives, without giving it.
 * @param requested one of the set's own addresses; any if undefined
 * @throws {CniError} 11 if there is none, or the requested one is taken; 7 for a gateway; 999 for a duplicate ADD
 */
export function choose(
  context: AllocationContext,
  own: OwnLeases,
  request: { readonly set: RangeSet; readonly setIndex: number; readonly requested?: IpAddress | undefined },
): Choice {
  const { set, setIndex, requested } = request;
  if (requested) return { ...chooseRequested(context, own, set, requested), setIndex };
  const duplicate = own.live.find((ip) => rangeFor(set, ip));
  if (duplicate) throw duplicateAllocation(duplicate, context.owner);
  const excluded = excludedValues(set);
  for (const { ip, record } of own.dead) {
    const range = rangeFor(set, ip);
    if (range && !excluded.has(ip.value)) return { ip, range, setIndex, from: record, isKept: true };
  }
  const found = findFree(context.leases, set, setIndex) ?? findEarlier(context.leases, context.index, set);
  if (!found) throw exhausted(set);
  return { isKept: false, ...found, setIndex };
}

function chooseRequested(
  { leases, index, owner }: AllocationContext,
  own: OwnLeases,
  set: RangeSet,
  ip: IpAddress,
): Omit<Choice, "setIndex"> {
  const range = rangeFor(set, ip);
  const text = formatIp(ip);
  if (range && equalIp(range.gateway, ip)) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, `requested ip ${text} is subnet's gateway`);
  }
  if (range && !excludedValues(set).has(ip.value)) {
    if (!leases.has(ip)) return { ip, range, isKept: false };
    const mine = own.dead.find((each) => equalIp(each.ip, ip));
    if (mine) return { ip, range, from: mine.record, isKept: true };
    if (own.live.some((each) => equalIp(each, ip))) throw duplicateAllocation(ip, owner);
    const record = earlierRecordOf(leases, index, ip);
    if (record) return { ip, range, from: record, isKept: false };
  }
  const holder = leases.ownerOf(ip);
  throw new CniError(
    ErrorCode.TryAgainLater,
    `requested IP address ${text} is not available in range set ${formatRangeSet(set)}`,
    holder ? { details: `${text} is held by ${describeOwner(holder)}` } : {},
  );
}

/** The next address in turn that has no lease. */
function findFree(leases: LeaseDirectory, set: RangeSet, setIndex: number): Candidate | undefined {
  let taken: Set<bigint> | undefined;
  let probes = 0;
  for (const candidate of candidates(set, leases.lastReserved(setIndex))) {
    if (probes++ < directProbes) {
      if (!leases.has(candidate.ip)) return candidate;
      continue;
    }
    taken ??= takenValues(leases, candidate.ip.family);
    if (!taken.has(candidate.ip.value)) return candidate;
  }
  return undefined;
}

/** Values of all addresses of one family that have a lease. */
function takenValues(leases: LeaseDirectory, family: 4 | 6): Set<bigint> {
  return new Set(leases.addresses().flatMap((ip) => (ip.family === family ? [ip.value] : [])));
}

/** An address of a container that ended with an earlier boot. */
function findEarlier(
  leases: LeaseDirectory,
  index: OwnerIndex,
  set: RangeSet,
): (Candidate & { from: OwnerRecord }) | undefined {
  const excluded = excludedValues(set);
  for (const record of index.earlier()) {
    for (const ip of record.addresses) {
      const range = rangeFor(set, ip);
      if (range && !range.onRequest && !excluded.has(ip.value) && isNamed(leases.ownerOf(ip), record)) {
        return { ip, range, from: record };
      }
    }
  }
  return undefined;
}

function earlierRecordOf(leases: LeaseDirectory, index: OwnerIndex, ip: IpAddress): OwnerRecord | undefined {
  const holder = leases.ownerOf(ip);
  return (
    holder && index.find(ownerName(holder)).find((each) => index.isEarlier(each) && hasAddress(each, ip))
  );
}

function hasAddress(record: OwnerRecord, ip: IpAddress): boolean {
  return record.addresses.some((each) => equalIp(each, ip));
}

function isNamed(owner: LeaseOwner | undefined, record: OwnerRecord): boolean {
  return owner !== undefined && ownerName(owner) === record.name;
}

/**
 * True if an ADD would find an address in the set. Tries some at random first, as those that come next may be one long
 * row of taken ones.
 */
export function hasFree(leases: LeaseDirectory, set: RangeSet, setIndex: number): boolean {
  const excluded = excludedValues(set);
  const common = commonRanges(set);
  for (let probe = 0; probe < directProbes; probe++) {
    const range = common[probe % common.length];
    const ip = range && randomIp(range);
    if (ip && !excluded.has(ip.value) && !leases.has(ip)) return true;
  }
  return findFree(leases, set, setIndex) !== undefined;
}

function randomIp({ start, end }: AddressRange): IpAddress {
  const size = end.value - start.value + 1n;
  // 53 random bits, spread over as many as the range has.
  const offset = (BigInt(Math.floor(Math.random() * Number.MAX_SAFE_INTEGER)) * size) >> 53n;
  return addToIp(start, offset);
}

/** True if an address of the set is held by a container of an earlier boot. */
export function hasReclaimable(leases: LeaseDirectory, index: OwnerIndex, set: RangeSet): boolean {
  return findEarlier(leases, index, set) !== undefined;
}

export function exhausted(set: RangeSet): CniError {
  return new CniError(
    ErrorCode.TryAgainLater,
    `no IP addresses available in range set: ${formatRangeSet(set)}`,
  );
}

function duplicateAllocation(ip: IpAddress, owner: LeaseOwner): CniError {
  return new CniError(
    ErrorCode.Internal,
    `${formatIp(ip)} has been allocated to ${owner.containerId}, duplicate allocation is not allowed`,
    { details: "run DEL for this container and interface first" },
  );
}

function describeOwner(owner: LeaseOwner): string {
  const [containerId, ifName] = formatLease(owner).split("\r\n");
  return ifName === undefined ? `container ${containerId}` : `container ${containerId}, interface ${ifName}`;
}
