import { endianness } from "node:os";
import { type IpAddress, ipFromBytes, ipToBytes } from "#net/ip.ts";

/** The 24 bytes in which native/poller.inc.c gives and takes an address: family, port, address, scope. */
export const socketAddressBytes = 24;

const little = endianness() === "LE";
/** AF_* */
const family = { 4: 2, 6: 10 } as const;

/** @param scope index of the link, which a link-local address of IPv6 needs */
export function encodeSocketAddress(ip: IpAddress, port: number, scope = 0): Uint8Array {
  const bytes = new Uint8Array(socketAddressBytes);
  bytes[little ? 0 : 1] = family[ip.family];
  bytes[2] = port >> 8;
  bytes[3] = port & 0xff;
  bytes.set(ipToBytes(ip), 4);
  new DataView(bytes.buffer).setUint32(20, scope, little);
  return bytes;
}

export function decodeSocketAddress(bytes: Uint8Array): { readonly ip: IpAddress; readonly port: number } {
  const isFour = bytes[little ? 0 : 1] === family[4];
  return {
    ip: ipFromBytes(bytes.slice(4, isFour ? 8 : 20)),
    port: ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0),
  };
}

/** AF_* of an address. */
export function addressFamily(ip: IpAddress): number {
  return family[ip.family];
}
