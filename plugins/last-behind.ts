import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import type { PluginHost } from "./context.ts";

/** With more networks than this, what holds for one is left to the next GC, as looking at all takes too long. */
const maxNetworksToAsk = 64;

/**
 * True if no other attachment, of whichever network, is behind the interface that this one is behind: what holds for all
 * of them can then go. Costs the same however many attachments there are.
 * @param isBehind what a record of the plugin says; in doubt, true
 */
export function isLastBehind(
  key: AttachmentKey,
  plugin: string,
  { journal }: PluginHost,
  isBehind: (record: JournalRecord) => boolean,
): boolean {
  if (journal.hasOther(key, plugin)) return false;
  const others = journal.networks().filter((network) => network !== key.network);
  if (others.length > maxNetworksToAsk) return false;
  return !others.some((network) =>
    journal.list(network).some((record) => record.plugin === plugin && isBehind(record)),
  );
}
