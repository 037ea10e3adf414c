import { type Cidr, formatCidr, networkOf, overlaps, parseCidr } from "#net/cidr.ts";
import { addToIp } from "#net/ip.ts";

/** Address space from which networks get a subnet: `base` cut into pieces of `size` bits. */
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

/** The first piece of the pools that overlaps nothing in `used`; undefined if there is none. */
export function pickSubnet(pools: readonly SubnetPool[], used: readonly Cidr[]): Cidr | undefined {
  for (const { base, size } of pools) {
    const family = base.address.family;
    const rivals = used.filter((cidr) => cidr.address.family === family);
    const step = 1n << BigInt((family === 4 ? 32 : 128) - size);
    const count = 1n << BigInt(size - base.prefixLength);
    for (let index = 0n; index < count; index++) {
      const candidate: Cidr = { address: addToIp(base.address, index * step), prefixLength: size };
      if (!rivals.some((cidr) => overlaps(candidate, cidr))) return candidate;
    }
  }
  return undefined;
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

/** Subnets given by hand or found on the host, as text for messages: sorted, each once. */
export function describeSubnets(subnets: readonly Cidr[]): string {
  return [...new Set(subnets.map((cidr) => formatCidr(networkOf(cidr))))].sort().join(", ");
}
