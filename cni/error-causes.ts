const maxCauses = 20;

/**
 * What lies beneath an error, outermost first: its causes and, of an AggregateError, its errors. None that an error
 * above it quotes already, as most do.
 */
export function describeCauses(error: Error): readonly string[] {
  const texts: string[] = [];
  const seen = new Set<unknown>([error]);
  const walk = (thrown: unknown): void => {
    if (thrown === undefined || seen.has(thrown) || texts.length >= maxCauses) return;
    seen.add(thrown);
    const text = messageOf(thrown);
    if (![error.message, ...texts].some((above) => above.includes(text))) texts.push(text);
    descend(thrown);
  };
  const descend = (parent: unknown): void => {
    if (!(parent instanceof Error)) return;
    walk(parent.cause);
    if (parent instanceof AggregateError) for (const each of parent.errors) walk(each);
  };
  descend(error);
  return texts;
}

/** The message of anything that can be thrown; never throws itself. */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error && thrown.message ? String(thrown.message) : String(thrown);
  } catch {
    return `a thrown ${typeof thrown} that has no text`;
  }
}
