import { DecodeError } from "#netlink/decode-error.ts";

/** NFT_REG32_SIZE: each field of a concatenation starts in a register of four bytes. */
const registerBytes = 4;

function padded(byteLength: number): number {
  return Math.ceil(byteLength / registerBytes) * registerBytes;
}

/**
 * A concatenation's bytes: each field filled up with zeros to a multiple of four. A single field is no
 * concatenation, and not filled up.
 */
export function concatenate(fields: readonly Uint8Array[]): Uint8Array {
  const [only] = fields;
  if (only && fields.length === 1) return only;
  const bytes = new Uint8Array(fields.reduce((sum, field) => sum + padded(field.length), 0));
  let at = 0;
  for (const field of fields) {
    bytes.set(field, at);
    at += padded(field.length);
  }
  return bytes;
}

/** The opposite of `concatenate`. @throws {DecodeError} not exactly as long as these fields */
export function splitConcatenation(bytes: Uint8Array, byteLengths: readonly number[]): readonly Uint8Array[] {
  const single = byteLengths.length === 1;
  const expected = byteLengths.reduce((sum, length) => sum + (single ? length : padded(length)), 0);
  if (bytes.length !== expected)
    throw new DecodeError(`${bytes.length} bytes of fields instead of ${expected}`);
  let at = 0;
  return byteLengths.map((length) => {
    const field = bytes.subarray(at, at + length);
    at += padded(length);
    return field;
  });
}
