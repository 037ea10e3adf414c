import type { Entry, Snapshot } from "./engine.ts";
import { CompactedError } from "./error.ts";

/** A list that came in parts, in the order of its keys. @param parts begins one; again, if the store forgets it meanwhile */
export async function wholeList(parts: () => AsyncIterable<Snapshot>): Promise<Snapshot> {
  for (;;) {
    try {
      const entries: Entry[] = [];
      let last = 0;
      for await (const { revision, entries: some } of parts()) {
        entries.push(...some);
        last = revision;
      }
      return { revision: last, entries: entries.sort((a, b) => (a.key < b.key ? -1 : 1)) };
    } catch (error) {
      if (!(error instanceof CompactedError)) throw error;
    }
  }
}
