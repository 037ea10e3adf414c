import { test } from "vitest";
import { mutate, randomFrom } from "./mutate.ts";
import { fuzzNames, partsOfNames, seedsOfNames } from "./names.ts";

/** `npm run fuzz:names` goes on for as long as it is told, by what it has reached. */
const runs = 30_000;

test("whatever bytes come to the resolver, it answers as it may", () => {
  const corpus = seedsOfNames();
  const random = randomFrom(1);
  for (const bytes of corpus) fuzzNames(bytes);
  for (let run = 0; run < runs; run++) {
    const seed = corpus[Math.floor(random() * corpus.length)] ?? new Uint8Array(0);
    const bytes = mutate(seed, { random, corpus, dictionary: partsOfNames, maxBytes: 1200 });
    try {
      fuzzNames(bytes);
    } catch (cause) {
      throw new Error(`with ${Buffer.from(bytes).toString("hex")}`, { cause });
    }
  }
});
