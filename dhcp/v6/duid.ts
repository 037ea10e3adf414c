import { sha256Hex } from "#machine/sha256.ts";

/** How DHCPv6 names a client or a server: RFC 8415 section 11, 130 bytes at most. */
export const longestDuidBytes = 130;

/** DUID-UUID: RFC 6355 */
const uuidType = 4;

/**
 * A DUID-UUID made of a text: the same for the same text on every host and after every start, without a file. The UUID is
 * of version 8 (RFC 9562 section 5.8), what SHA-256 makes of the text.
 */
export function duidOf(text: string): Uint8Array {
  const uuid = Buffer.from(sha256Hex(text).slice(0, 32), "hex");
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
  return Buffer.concat([Uint8Array.of(0, uuidType), uuid]);
}

/**
 * Reads bytes in hex with colons (`00:03:00:01:02:42:0a:00:00:05`), or a UUID, which makes a DUID-UUID.
 * @returns undefined for another text, and for what is shorter than 3 bytes or longer than 130
 */
export function parseDuid(text: string): Uint8Array | undefined {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) {
    return Buffer.concat([Uint8Array.of(0, uuidType), Buffer.from(text.replaceAll("-", ""), "hex")]);
  }
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})+$/i.test(text)) return undefined;
  const bytes = Buffer.from(text.replaceAll(":", ""), "hex");
  return bytes.length < 3 || bytes.length > longestDuidBytes ? undefined : bytes;
}

/** `00:04:…` */
export function formatDuid(duid: Uint8Array): string {
  return Buffer.from(duid)
    .toString("hex")
    .replace(/..(?=.)/g, "$&:");
}

/** The number of an association (IAID): the same for the same interface. @param index from 0, of several */
export function associationId(ifName: string, index: number): number {
  return Number.parseInt(sha256Hex(`${index} ${ifName}`).slice(0, 8), 16);
}
