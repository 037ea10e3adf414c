import type { Journal } from "./journal.ts";
import type { JournalRecord } from "./record.ts";
import { recordName } from "./record-name.ts";

/**
 * Removes every attachment of one network and plugin that is not among the valid ones: GC of the CNI specification.
 * Goes on after an error.
 * @param remove takes away what the record names, and the record itself at the end
 * @throws {AggregateError} with all errors of `remove`, if there were any
 */
export async function collectRecords(
  journal: Journal,
  scope: {
    readonly network: string;
    readonly plugin: string;
    readonly valid: readonly { readonly containerId: string; readonly ifName: string }[];
  },
  remove: (record: JournalRecord) => Promise<void>,
): Promise<void> {
  const { network, plugin } = scope;
  const valid = new Set(scope.valid.map((each) => recordName({ network, ...each }, plugin)));
  const errors: unknown[] = [];
  let tried = 0;
  for (const record of journal.list(network)) {
    if (record.plugin !== plugin || valid.has(recordName(record.key, plugin))) continue;
    tried++;
    try {
      await remove(record);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) {
    throw new AggregateError(
      errors,
      `Cannot remove ${errors.length} of ${tried} stale attachments of network ${JSON.stringify(network)}: ${errors
        .map((error) => (error instanceof Error ? error.message : String(error)))
        .join("; ")}`,
    );
  }
}
