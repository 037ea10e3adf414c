/**
 * A copy of a part, of a memory of its own. `slice()` copies for a Uint8Array, but for Node's Buffer, which is one as
 * well, it gives a view: of a receive buffer that the next round overwrites.
 */
export function copyBytes(bytes: Uint8Array, start = 0, end = bytes.length): Uint8Array {
  const copy = new Uint8Array(end - start);
  copy.set(bytes.subarray(start, end));
  return copy;
}
