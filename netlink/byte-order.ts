/** Netlink speaks the host's byte order; false on s390x and the like. For DataView's `littleEndian`. */
export const hostLittleEndian: boolean = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** A view of exactly these bytes, wherever in their buffer they lie. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
