/** Numbers from 0 to 1, always the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

const interesting = [0, 1, 2, 3, 4, 6, 7, 11, 12, 28, 41, 63, 64, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

interface MutateOptions {
  readonly random: () => number;
  /** Others, to take parts of. */
  readonly corpus: readonly Uint8Array[];
  /** Parts that mean something to who reads the bytes. */
  readonly dictionary: readonly Uint8Array[];
  readonly maxBytes: number;
}

/** A changed copy: up to eight bytes or parts of it are others, more, or missing. */
export function mutate(
  bytes: Uint8Array,
  { random, corpus, dictionary, maxBytes }: MutateOptions,
): Uint8Array {
  const below = (limit: number) => Math.floor(random() * limit);
  const pick = <Item>(items: readonly Item[]) => items[below(items.length)];
  let result = Uint8Array.from(bytes);
  const replace = (start: number, end: number, part: Uint8Array) => {
    const next = new Uint8Array(result.length - (end - start) + part.length);
    next.set(result.subarray(0, start));
    next.set(part, start);
    next.set(result.subarray(end), start + part.length);
    result = next;
  };
  const changes = 1 + below(8);
  for (let count = 0; count < changes; count++) {
    const at = below(result.length + 1);
    const end = Math.min(at + 1 + below(16), result.length);
    switch (below(8)) {
      case 0:
        if (at < result.length) result[at] = (result[at] as number) ^ (1 << below(8));
        break;
      case 1:
        if (at < result.length) result[at] = pick(interesting) ?? 0;
        break;
      case 2:
        if (at < result.length) result[at] = below(256);
        break;
      case 3:
        replace(at, end, new Uint8Array(0));
        break;
      case 4:
        replace(
          at,
          at,
          Uint8Array.from({ length: 1 + below(8) }, () => below(256)),
        );
        break;
      case 5:
        replace(at, random() < 0.5 ? at : end, pick(dictionary) ?? new Uint8Array(0));
        break;
      case 6:
        replace(at, at, result.slice(at, end));
        break;
      default: {
        const other = pick(corpus) ?? result;
        const from = below(other.length + 1);
        replace(at, result.length, other.subarray(from));
      }
    }
  }
  return result.length > maxBytes ? result.subarray(0, maxBytes) : result;
}
