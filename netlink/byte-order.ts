/** Netlink speaks the host's byte order; false on s390x and the like. For DataView's `littleEndian`. */
export const hostLittleEndian: boolean = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** A view of exactly these bytes, wherever in their buffer they lie. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/*
 * Single numbers out of a message. Not through a DataView: making one costs more than reading twenty attributes.
 * The caller has made sure that the bytes are there.
 */

export function readU16(bytes: Uint8Array, at = 0): number {
  const first = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  return hostLittleEndian ? (second << 8) | first : (first << 8) | second;
}

export function readI32(bytes: Uint8Array, at = 0): number {
  const low = readU16(bytes, hostLittleEndian ? at : at + 2);
  const high = readU16(bytes, hostLittleEndian ? at + 2 : at);
  return (high << 16) | low;
}

export function readU32(bytes: Uint8Array, at = 0): number {
  return readI32(bytes, at) >>> 0;
}
