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

export const readU16: (bytes: Uint8Array, at?: number) => number = hostLittleEndian
  ? (bytes, at = 0) => (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
  : (bytes, at = 0) => ((bytes[at] as number) << 8) | (bytes[at + 1] as number);

export const readI32: (bytes: Uint8Array, at?: number) => number = hostLittleEndian
  ? (bytes, at = 0) => readU16(bytes, at) | (readU16(bytes, at + 2) << 16)
  : (bytes, at = 0) => (readU16(bytes, at) << 16) | readU16(bytes, at + 2);

export function readU32(bytes: Uint8Array, at = 0): number {
  return readI32(bytes, at) >>> 0;
}
