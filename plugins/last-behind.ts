import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import type { PluginHost } from "./context.ts";

/** With more networks or attachments than this, what holds for one is left to the next GC: looking at all takes too long. */
const maxNetworksToAsk = 64;
const maxRecordsToAsk = 16;

/**
 * True if there are so many attachments that what no network needs any more, such as the elements of its subnets, is left
 * to the next GC: which of it is needed only all records tell.
 */
export function isLeftToGc({ journal }: PluginHost): boolean {
  return journal.hasMoreThan(maxRecordsToAsk);
}

/**
 * True if no other attachment, of whichever network, is behind the interface that this one is behind: what holds for all
 * of them can then go. Those that leave too count for nothing, else two that leave at once would wait for each other.
 * Costs the same however many attachments there are.
 * @param isBehind what a record of the plugin says; in doubt, true
 */
export function isLastBehind(
  key: AttachmentKey,
  plugin: string,
  { journal }: PluginHost,
  isBehind: (record: JournalRecord) => boolean,
): boolean {
  let asked = 0;
  const keepsIt = (record: JournalRecord) =>
    ++asked > maxRecordsToAsk || (record.plugin === plugin && record.phase !== "leaving" && isBehind(record));
  for (const record of journal.eachOther(key, plugin)) if (keepsIt(record)) return false;
  const others = journal.networks().filter((network) => network !== key.network);
  if (others.length > maxNetworksToAsk) return false;
  for (const network of others) {
    for (const record of journal.each(network)) if (keepsIt(record)) return false;
  }
  return true;
}
