import { setImmediate as nextTurn } from "node:timers/promises";
import type { IntactRecord } from "#journal/record.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { Upkeep } from "#plugins/upkeep.ts";
import { loadPlugin } from "./plugins.ts";

/** Between two looks at the event loop: reading a record takes some 20 µs. */
export const recordsAtOnce = 64;

/** An attachment by its record, with what knows what it must have on the host. */
export interface Kept {
  readonly record: IntactRecord;
  readonly upkeep: Upkeep;
}

/** True if this host has attachments. Reads no more records than it has to. */
export function hasAttachments(host: PluginHost): boolean {
  for (const record of host.journal.each()) {
    if (record.phase === "done" && isOfThisHost(record, host)) return true;
  }
  return false;
}

/**
 * This host's attachments that are whole by their records, the oldest first. `unsettled`: others are not, since an ADD or
 * a DEL is under way or has not ended.
 */
export async function readKept(
  host: PluginHost,
): Promise<{ readonly kept: readonly Kept[]; readonly unsettled: boolean }> {
  const kept: Kept[] = [];
  let unsettled = false;
  let read = 0;
  for (const record of host.journal.each()) {
    if (++read % recordsAtOnce === 0) await nextTurn();
    if (record.phase === "torn" || !isOfThisHost(record, host)) continue;
    const upkeep = (await loadPlugin(record.plugin))?.upkeep;
    if (!upkeep) continue;
    if (record.phase === "done") kept.push({ record, upkeep });
    else unsettled = true;
  }
  kept.sort((a, b) => a.record.createdAtMs - b.record.createdAtMs);
  return { kept, unsettled };
}

/** What was made for another host of this machine is in that one's namespace; of an earlier boot nothing is left. */
function isOfThisHost({ bootId, hostNamespace: theirs }: IntactRecord, host: PluginHost): boolean {
  const { dev, ino } = host.hostNamespace;
  return bootId === host.bootId && (!theirs || (theirs.dev === dev && theirs.ino === ino));
}
