import { closest, distance } from "fastest-levenshtein";

/** The word that was probably meant, if one is near: at most a third of its letters, rounded up, are otherwise. */
export function nearestWord(text: string, words: readonly string[]): string | undefined {
  if (words.length === 0 || text === "") return undefined;
  const lower = text.toLowerCase();
  const candidates = new Map(words.map((word) => [word.toLowerCase(), word]));
  const found = closest(lower, [...candidates.keys()]);
  return distance(lower, found) <= Math.ceil(Math.max(lower.length, found.length) / 3)
    ? candidates.get(found)
    : undefined;
}

/** What to put behind a message that a name is not known: `; did you mean web?`, or nothing where no name is near. */
export function didYouMean(text: string, words: readonly string[]): string {
  const near = nearestWord(text, words);
  return near === undefined ? "" : `; did you mean ${near}?`;
}
