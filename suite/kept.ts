import { setImmediate as nextTurn } from "node:timers/promises";
import { isCertain } from "#journal/journal.ts";
import type { IntactRecord, RecordDate } from "#journal/record.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { Upkeep } from "#plugins/upkeep.ts";
import { loadPlugin } from "./plugins.ts";

/** Between two looks at the event loop: reading a record takes some 20 µs. */
export const recordsAtOnce = 64;

/** An attachment by its record, with what knows what it must have on the host. */
export interface Kept {
  readonly record: IntactRecord;
  readonly date: RecordDate;
  readonly upkeep: Upkeep;
}

/** True if this host has attachments. Reads no more records than it has to. */
export function hasAttachments(host: PluginHost): boolean {
  for (const record of host.journal.each()) {
    if (record.phase === "done" && isOfThisHost(record, host)) return true;
  }
  return false;
}

/** What was made of records, by their path: those that are as they were need not be read again. */
export type KeptMemory<Value> = Map<string, Remembered<Value>>;

interface Remembered<Value> {
  readonly date: RecordDate;
  readonly createdAtMs: number;
  readonly value: Value;
}

/**
 * Makes something of each of this host's attachments that are whole by their records. The oldest come first in what it
 * returns. The records themselves are let go: a thousand of them with all their JSON would be ten MiB.
 * @param make has to be quick
 * @param memory of the last time; what is in it afterwards is this time's
 * @returns `unsettled`: others are not whole, since an ADD or a DEL is under way or has not ended
 */
export async function fromKept<Value>(
  host: PluginHost,
  make: (kept: Kept) => Value,
  memory: KeptMemory<Value> = new Map(),
): Promise<{ readonly values: readonly Value[]; readonly unsettled: boolean }> {
  const made: Remembered<Value>[] = [];
  const present = new Set<string>();
  let unsettled = false;
  let read = 0;
  for (const { path, date, read: readRecord } of host.journal.eachDated()) {
    if (++read % recordsAtOnce === 0) await nextTurn();
    const remembered = memory.get(path);
    if (remembered?.date.modifiedNs === date.modifiedNs) {
      present.add(path);
      made.push(remembered);
      continue;
    }
    const record = readRecord();
    if (!record || record.phase === "torn" || !isOfThisHost(record, host)) continue;
    const upkeep = upkeeps.has(record.plugin) ? upkeeps.get(record.plugin) : await learnUpkeep(record.plugin);
    if (!upkeep) continue;
    if (record.phase !== "done") {
      unsettled = true;
      continue;
    }
    const value = make({ record, date, upkeep });
    const each = { date, createdAtMs: record.createdAtMs, value };
    made.push(each);
    if (!isCertain(date)) continue;
    memory.set(path, each);
    present.add(path);
  }
  for (const path of memory.keys()) if (!present.has(path)) memory.delete(path);
  made.sort((a, b) => a.createdAtMs - b.createdAtMs);
  return { values: made.map(({ value }) => value), unsettled };
}

/** By plugin: to wait for a promise for each record would take longer than to read it. */
const upkeeps = new Map<string, Upkeep | undefined>();

async function learnUpkeep(plugin: string): Promise<Upkeep | undefined> {
  const upkeep = (await loadPlugin(plugin))?.upkeep;
  upkeeps.set(plugin, upkeep);
  return upkeep;
}

/** What was made for another host of this machine is in that one's namespace; of an earlier boot nothing is left. */
function isOfThisHost({ bootId, hostNamespace: theirs }: IntactRecord, host: PluginHost): boolean {
  const { dev, ino } = host.hostNamespace;
  return bootId === host.bootId && (!theirs || (theirs.dev === dev && theirs.ino === ino));
}
