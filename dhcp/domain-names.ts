/**
 * Names in the wire format of DNS (RFC 1035 section 3.1), one after the other. What is malformed ends the list.
 * @param options.compressed names may end with a pointer to another: RFC 3397 has that, RFC 8415 section 10 forbids it
 */
export function readDomainNames(value: Uint8Array, options: { readonly compressed: boolean }): string[] {
  const names: string[] = [];
  for (let at = 0; at < value.length; ) {
    const read = readName(value, at, options.compressed);
    if (!read) break;
    if (read.name) names.push(read.name);
    at = read.end;
  }
  return names;
}

function readName(
  value: Uint8Array,
  start: number,
  isCompressed: boolean,
): { readonly name: string; readonly end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  let after: number | undefined;
  for (let jumps = 0; jumps < 16; ) {
    const length = value[at];
    if (length === undefined) return undefined;
    if (length === 0) return { name: labels.join("."), end: after ?? at + 1 };
    if (isCompressed && (length & 0xc0) === 0xc0) {
      const low = value[at + 1];
      if (low === undefined) return undefined;
      after ??= at + 2;
      at = ((length & 0x3f) << 8) | low;
      jumps++;
      continue;
    }
    if (length > 63 || at + 1 + length > value.length || labels.length > 127) return undefined;
    labels.push(Buffer.from(value.subarray(at + 1, at + 1 + length)).toString("latin1"));
    at += 1 + length;
  }
  return undefined;
}

/** One name, not compressed. @returns undefined where a label has no bytes or more than 63, or all have more than 254 */
export function encodeDomainName(name: string): Uint8Array | undefined {
  const labels = name.replace(/\.$/, "").split(".");
  const parts = labels.map((label) => Buffer.from(label, "latin1"));
  if (parts.some(({ length }) => length === 0 || length > 63)) return undefined;
  const bytes = Buffer.concat([
    ...parts.flatMap((part) => [Uint8Array.of(part.length), part]),
    Uint8Array.of(0),
  ]);
  return bytes.length > 255 ? undefined : bytes;
}
