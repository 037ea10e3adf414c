import type { End } from "./end.ts";

/** One way to another host: by which of this host's ends, to which of its keys. */
export interface Path {
  readonly end: End;
  readonly publicKey: string;
}

/**
 * The newest pair of keys that has shaken hands, which shows that both sides have both: so while a key is replaced each
 * two hosts go over to the new one when both can, and nobody has to be asked. Before any has, the oldest pair.
 * @param ends of this host, oldest first
 * @param keys of the other one, oldest first
 */
export function choosePath(ends: readonly End[], keys: readonly string[]): Path | undefined {
  for (const end of ends.toReversed())
    for (const publicKey of keys.toReversed())
      if ((end.handshakes.get(publicKey) ?? 0) > 0) return { end, publicKey };
  const [end] = ends;
  const [publicKey] = keys;
  return end && publicKey !== undefined ? { end, publicKey } : undefined;
}
