import { setImmediate as nextTurn } from "node:timers/promises";
import { AttachmentClaim } from "#journal/attachment-lock.ts";
import type { AttachmentKey, IntactRecord, RecordDate } from "#journal/record.ts";
import type { Operation } from "#nftables/element.ts";
import { type OwnerTag, ownerTag } from "#nftables/owner.ts";
import { type Restoration, restore } from "#nftables/restore.ts";
import { type Keyed, keyed } from "#nftables/rival-ports.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { Needs, Upkeep } from "#plugins/upkeep.ts";
import { fromKept, type Kept, type KeptMemory, recordsAtOnce } from "./kept.ts";

/** What was missing of one attachment's, by one plugin. */
export interface AttachmentRepair {
  readonly key: AttachmentKey;
  readonly plugin: string;
  /** Elements of the suite's tables that are this attachment's own. */
  readonly elements: readonly Operation[];
  /** Rules elsewhere, in words. */
  readonly rules: readonly string[];
}

export interface RepairFailure {
  readonly key?: AttachmentKey;
  readonly plugin?: string;
  readonly reason: string;
}

export interface Repair {
  /** Tables that were gone or not as they should be. */
  readonly tables: Restoration["tables"];
  /** Subnets and addresses of the host that several attachments share. */
  readonly shared: readonly Operation[];
  readonly attachments: readonly AttachmentRepair[];
  readonly failed: readonly RepairFailure[];
  /** Attachments that miss something, and were left to who works on them. */
  readonly busy: readonly AttachmentKey[];
  /** Attachments that were looked at. */
  readonly looked: number;
  /** True if an ADD or DEL was under way: look again when it has ended. */
  readonly unsettled: boolean;
}

/** What the event of a repair says. */
export function repairAttributes(found: Repair): Readonly<Record<string, string>> {
  const { tables, shared, attachments, failed } = found;
  const elements = attachments.reduce((sum, each) => sum + each.elements.length, shared.length);
  const rules = attachments.reduce((sum, each) => sum + each.rules.length, 0);
  return {
    tables: String(tables.length),
    attachments: String(attachments.length),
    elements: String(elements),
    rules: String(rules),
    failed: String(failed.length),
  };
}

export interface RepairOptions {
  /** Only look. */
  readonly dryRun?: boolean;
  /** For who looks again and again: what records say that are as they were at the last look. */
  readonly memory?: RepairMemory;
}

export type RepairMemory = KeptMemory<Wanted>;

/** What a record says, without the record. */
interface Wanted extends Pick<Needs, "rules"> {
  readonly elements: readonly Keyed[];
  readonly key: AttachmentKey;
  readonly plugin: string;
  readonly owner: OwnerTag;
  readonly createdAtMs: number;
  readonly date: RecordDate;
  readonly upkeep: Upkeep;
}

/**
 * Puts back what another hand has taken away of this host's attachments: rules, elements of the suite's tables, rules
 * that plugins have elsewhere. What attachments must have follows from the journal. Goes on after an error.
 *
 * What is put back for an attachment is put back with its lock held, as its verbs hold it, and by a record that was read
 * under the lock: no ADD or DEL of whichever process is in between. An attachment that somebody works on is left alone,
 * and `unsettled` says so.
 */
export async function repair(
  host: PluginHost,
  { dryRun = false, memory }: RepairOptions = {},
): Promise<Repair> {
  const failed: RepairFailure[] = [];
  const { restoration, kept, unsettled, busy } = await restoreElements(host, {
    dryRun,
    memory: memory ?? new Map(),
  });
  for (const { elements, reason } of restoration.failed) {
    const owner = kept.find((each) => each.owner === elements[0]?.owner);
    failed.push({ ...(owner ? { key: owner.key, plugin: owner.plugin } : {}), reason });
  }
  const restored = new Set(restoration.elements);
  const repaired: { kept: Wanted; elements: readonly Operation[]; rules: readonly string[] }[] = [];
  let isChanging = false;
  for (const [index, each] of kept.entries()) {
    if (index % recordsAtOnce === 0) await nextTurn();
    // What attachments share counts apart.
    const elements = each.elements
      .map(({ operation }) => operation)
      .filter((one) => one.owner !== undefined && restored.has(one));
    const rules = each.rules ? await repairRules(each, host, { dryRun, failed }) : [];
    if (rules === "busy") busy.set(each.owner, each.key);
    else if (rules === "changed") isChanging = true;
    else if (elements.length + rules.length > 0) repaired.push({ kept: each, elements, rules });
  }
  if (!dryRun) {
    await tellRestored(
      repaired.map((each) => each.kept),
      host,
      failed,
    );
  }
  return {
    tables: restoration.tables,
    shared: restoration.elements.filter(({ owner }) => owner === undefined),
    attachments: repaired.map(({ kept: { key, plugin }, elements, rules }) => ({
      key,
      plugin,
      elements,
      rules,
    })),
    failed,
    busy: [...busy.values()],
    looked: kept.length,
    unsettled: unsettled || isChanging || busy.size > 0,
  };
}

/** Elements of the suite's tables: those that are missing, of attachments that nobody works on. */
async function restoreElements(host: PluginHost, { dryRun, memory }: Required<RepairOptions>) {
  using locks = new AttachmentClaim(host.directories.run);
  let kept: readonly Wanted[] = [];
  let unsettled = false;
  const busy = new Map<OwnerTag, AttachmentKey>();
  const wanted = async () => {
    ({ values: kept, unsettled } = await fromKept(host, wantedOf, memory));
    return kept.map(({ elements }) => elements);
  };
  /** Of those that miss something. What several share may be put back for any of them. */
  const claim = async (isMissing: (element: Keyed) => boolean) => {
    const claimed = new Set<readonly Keyed[]>();
    for (const [index, each] of kept.entries()) {
      if (index % recordsAtOnce === 0) await nextTurn();
      if (!each.elements.some(isMissing)) continue;
      if (!locks.take(each.key)) busy.set(each.owner, each.key);
      else if (isStill(each, host)) claimed.add(each.elements);
      else unsettled = true;
    }
    return (elements: readonly Keyed[]) => claimed.has(elements);
  };
  const restoration = await restore(host.nftables, wanted, { dryRun, claim });
  return { restoration, kept, unsettled, busy };
}

function wantedOf({ record, date, upkeep }: Kept): Wanted {
  const { key, plugin, createdAtMs } = record;
  const owner = ownerTag(key.network, key.containerId, key.ifName);
  const { elements, rules } = upkeep.needs(record);
  return { key, plugin, owner, createdAtMs, date, upkeep, elements: elements.map(keyed), rules };
}

/** True if something was missing, whether or not it could be put back. */
export function foundAnything({ tables, shared, attachments, failed }: Repair): boolean {
  return tables.length + shared.length + attachments.length + failed.length > 0;
}

/**
 * @returns those that were missing; "busy" where they could not be put back, since somebody works on the attachment,
 * "changed" where he has just done so
 */
async function repairRules(
  wanted: Wanted,
  host: PluginHost,
  { dryRun, failed }: { readonly dryRun: boolean; readonly failed: RepairFailure[] },
): Promise<readonly string[] | "busy" | "changed"> {
  const { key, plugin, upkeep } = wanted;
  try {
    const record = recordOf(wanted, host);
    if (!record) return [];
    const missing = (await upkeep.missingRules?.(record, host)) ?? [];
    if (missing.length === 0 || dryRun) return missing;
    using lock = new AttachmentClaim(host.directories.run);
    if (!lock.take(key)) return "busy";
    if (!isStill(wanted, host)) return "changed";
    await upkeep.restoreRules?.(record, host);
    return missing;
  } catch (error) {
    failed.push({ key, plugin, reason: messageOf(error) });
    return [];
  }
}

async function tellRestored(
  repaired: readonly Wanted[],
  host: PluginHost,
  failed: RepairFailure[],
): Promise<void> {
  for (const upkeep of new Set(repaired.map((each) => each.upkeep))) {
    if (!upkeep.restored) continue;
    const wanted = repaired.filter((each) => each.upkeep === upkeep);
    try {
      const records: IntactRecord[] = [];
      for (const [index, each] of wanted.entries()) {
        if (index % recordsAtOnce === 0) await nextTurn();
        const record = recordOf(each, host);
        if (record) records.push(record);
      }
      await upkeep.restored(records, host);
    } catch (error) {
      failed.push({ plugin: wanted[0]?.plugin ?? "", reason: messageOf(error) });
    }
  }
}

/** The record, if it is still that of an attachment that is there. Settled only while its lock is held. */
function recordOf({ key, plugin, createdAtMs }: Wanted, host: PluginHost): IntactRecord | undefined {
  const present = host.journal.read(key, plugin);
  return present?.phase === "done" && present.createdAtMs === createdAtMs ? present : undefined;
}

/** True if it is. */
function isStill(wanted: Wanted, host: PluginHost): boolean {
  return (
    host.journal.isUnchanged(wanted.key, wanted.plugin, wanted.date) || recordOf(wanted, host) !== undefined
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
