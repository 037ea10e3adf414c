import { type IpAddress, ipFromBytes } from "./ip.ts";
import { type MacAddress, macToBytes } from "./mac.ts";

/**
 * The link-local address that an interface with this MAC address gives itself: the prefix fe80::/64 and the modified
 * EUI-64 (RFC 4291 appendix A).
 */
export function linkLocalOf(mac: MacAddress): IpAddress {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = macToBytes(mac);
  return ipFromBytes(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f));
}
