import { type Cidr, containsIp, firstIp, lastIp, parseCidr } from "#net/cidr.ts";
import { addToIp, type IpAddress, ipBits } from "#net/ip.ts";

/** Address space from which networks get a subnet: `base` cut into pieces with prefixes of `size` bits. */
export interface SubnetPool {
  readonly base: Cidr;
  readonly size: number;
}

const pool = (base: string, size: number): SubnetPool => ({ base: parseCidr(base), size });

/**
 * Docker's predefined local pools, in its order: 31 networks. 172.17.0.0/16 is left to Docker's own default
 * bridge only if that exists, because then the host has a route to it.
 */
export const defaultPools: readonly SubnetPool[] = [
  pool("172.17.0.0/16", 16),
  pool("172.18.0.0/16", 16),
  pool("172.19.0.0/16", 16),
  pool("172.20.0.0/14", 16),
  pool("172.24.0.0/14", 16),
  pool("172.28.0.0/14", 16),
  pool("192.168.0.0/16", 20),
];

/** A run of pieces, by their numbers in the pool, both ends included. */
interface Run {
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * The first piece of the pools that overlaps nothing in `used`; undefined if there is none. What it costs depends on
 * how many subnets are used, not on how many pieces there are.
 * @param size prefix length of the piece, instead of each pool's own
 */
export function pickSubnet(
  pools: readonly SubnetPool[],
  used: readonly Cidr[],
  size?: number,
): Cidr | undefined {
  for (const { base, size: own } of pools) {
    const cut = { base, size: size ?? own };
    if (cut.size < base.prefixLength || cut.size > ipBits(base.address.family)) continue;
    let free = 0n;
    for (const { first, last } of takenPieces(cut, used)) {
      if (free < first) break;
      free = last + 1n;
    }
    if (free < pieceCount(cut)) return piece(cut, free);
  }
  return undefined;
}

export interface PoolUse {
  /** Pieces of the pool. */
  readonly total: bigint;
  /** Pieces that something of `used` overlaps. */
  readonly used: bigint;
}

export function measurePool(subnetPool: SubnetPool, used: readonly Cidr[]): PoolUse {
  const taken = takenPieces(subnetPool, used).reduce((sum, { first, last }) => sum + last - first + 1n, 0n);
  return { total: pieceCount(subnetPool), used: taken };
}

/** Pieces that are overlapped, as runs that do not touch, in order. */
function takenPieces({ base, size }: SubnetPool, used: readonly Cidr[]): readonly Run[] {
  const shift = BigInt(ipBits(base.address.family) - size);
  const [start, end] = [firstIp(base), lastIp(base)];
  const clip = (ip: IpAddress) =>
    ip.value < start.value ? start.value : ip.value > end.value ? end.value : ip.value;
  const indexOf = (ip: IpAddress) => (clip(ip) - start.value) >> shift;
  const runs = used
    .filter((cidr) => cidr.address.family === base.address.family)
    .filter((cidr) => containsIp(base, firstIp(cidr)) || containsIp(cidr, start))
    .map((cidr): Run => ({ first: indexOf(firstIp(cidr)), last: indexOf(lastIp(cidr)) }))
    .sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: { first: bigint; last: bigint }[] = [];
  for (const run of runs) {
    const before = merged.at(-1);
    if (before && run.first <= before.last + 1n) {
      if (run.last > before.last) before.last = run.last;
    } else merged.push({ ...run });
  }
  return merged;
}

function pieceCount({ base, size }: SubnetPool): bigint {
  return 1n << BigInt(size - base.prefixLength);
}

function piece({ base, size }: SubnetPool, index: bigint): Cidr {
  const step = 1n << BigInt(ipBits(base.address.family) - size);
  return { address: addToIp(firstIp(base), index * step), prefixLength: size };
}

/**
 * A /64 for local use: fd, 40 random bits, subnet 0.
 * @param random 5 bytes
 * @see RFC 4193 section 3.1
 */
export function uniqueLocalSubnet(random: Uint8Array): Cidr {
  if (random.length !== 5)
    throw new RangeError(`Cannot make a unique local prefix from ${random.length} bytes: 5 are needed`);
  let value = 0xfdn;
  for (const byte of random) value = (value << 8n) | BigInt(byte);
  return { address: { family: 6, value: value << 80n }, prefixLength: 64 };
}
