import prettyBytes from "pretty-bytes";

export const rateText = (bytes: number): string => `${prettyBytes(Math.round(bytes), { binary: true })}/s`;

/** Whether a row is among those that are looked for. */
export function isFound(search: string, ...texts: readonly (string | null)[]): boolean {
  const wanted = search.trim().toLowerCase();
  return wanted === "" || texts.some((text) => text?.toLowerCase().includes(wanted));
}
