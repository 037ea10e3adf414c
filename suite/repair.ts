import { setImmediate as nextTurn } from "node:timers/promises";
import { AttachmentClaim } from "#journal/attachment-lock.ts";
import type { AttachmentKey, IntactRecord } from "#journal/record.ts";
import { formatElement, type Operation } from "#nftables/element.ts";
import { ownerTag } from "#nftables/owner.ts";
import { type Restoration, restore } from "#nftables/restore.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type Kept, readKept, recordsAtOnce } from "./kept.ts";

/** What was missing of one attachment's, by one plugin. */
export interface AttachmentRepair {
  readonly key: AttachmentKey;
  readonly plugin: string;
  /** Elements of the suite's tables, as nft writes them. */
  readonly elements: readonly string[];
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
  readonly shared: readonly string[];
  readonly attachments: readonly AttachmentRepair[];
  readonly failed: readonly RepairFailure[];
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
}

/**
 * Puts back what another hand has taken away of this host's attachments: rules, elements of the suite's tables, rules
 * that plugins have elsewhere. What attachments must have follows from the journal. Goes on after an error.
 *
 * What is put back for an attachment is put back with its lock held, as its verbs hold it, and by a record that was read
 * under the lock: no ADD or DEL of whichever process is in between. An attachment that somebody works on is left alone,
 * and `unsettled` says so.
 */
export async function repair(host: PluginHost, { dryRun = false }: RepairOptions = {}): Promise<Repair> {
  const failed: RepairFailure[] = [];
  const { restoration, kept, unsettled } = await restoreElements(host, { dryRun });
  for (const { elements, reason } of restoration.failed) {
    const owner = kept.find(({ record }) => ownerOf(record) === elements[0]?.owner);
    failed.push({ ...(owner ? { key: owner.record.key, plugin: owner.record.plugin } : {}), reason });
  }
  const byOwner = groupByOwner(restoration.elements);
  const repaired: { kept: Kept; elements: readonly Operation[]; rules: readonly string[] }[] = [];
  let isBusy = unsettled;
  for (const each of kept) {
    const ofOwner = byOwner.get(ownerOf(each.record)) ?? [];
    // Plugins of one chain share the owner.
    const own = new Set(ofOwner.length > 0 ? each.upkeep.elements(each.record).map(formatElement) : []);
    const elements = ofOwner.filter((one) => own.has(formatElement(one)));
    const rules = await repairRules(each, host, { dryRun, failed });
    if (rules === "busy") isBusy = true;
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
    shared: restoration.elements.filter(({ owner }) => owner === undefined).map(formatElement),
    attachments: repaired.map(({ kept: { record }, elements, rules }) => ({
      key: record.key,
      plugin: record.plugin,
      elements: elements.map(formatElement),
      rules,
    })),
    failed,
    looked: kept.length,
    unsettled: isBusy,
  };
}

/** Elements of the suite's tables: those that are missing, of attachments that nobody works on. */
async function restoreElements(host: PluginHost, { dryRun }: Required<RepairOptions>) {
  using locks = new AttachmentClaim(host.directories.run);
  let kept: readonly Kept[] = [];
  let unsettled = false;
  const wanted = async () => {
    const found = await readKept(host);
    ({ kept, unsettled } = found);
    return kept.flatMap(({ record, upkeep }) => upkeep.elements(record));
  };
  /** Of those that miss something. What several share may be put back for any of them. */
  const claim = async (missing: readonly Operation[]) => {
    const gone = new Set(missing.map(identity));
    const claimed = new Set<string>();
    for (const [index, { record, upkeep }] of kept.entries()) {
      if (index % recordsAtOnce === 0) await nextTurn();
      const needed = upkeep.elements(record).map((each) => identity(each));
      if (!needed.some((each) => gone.has(each))) continue;
      if (locks.take(record.key) && isStill(record, host)) for (const each of needed) claimed.add(each);
      else unsettled = true;
    }
    return (operation: Operation) => claimed.has(identity(operation));
  };
  const restoration = await restore(host.nftables, wanted, { dryRun, claim });
  return { restoration, kept, unsettled };
}

/** Of several attachments that want one key, each counts; what has no owner is the same for all. */
function identity(operation: Operation): string {
  return `${operation.owner ?? ""} ${formatElement({ set: operation.set, key: operation.key })}`;
}

/** True if something was missing, whether or not it could be put back. */
export function foundAnything({ tables, shared, attachments, failed }: Repair): boolean {
  return tables.length + shared.length + attachments.length + failed.length > 0;
}

function ownerOf({ key: { network, containerId, ifName } }: IntactRecord): string {
  return ownerTag(network, containerId, ifName);
}

function groupByOwner(operations: readonly Operation[]): ReadonlyMap<string, readonly Operation[]> {
  const groups = new Map<string, Operation[]>();
  for (const operation of operations) {
    const owner = operation.owner ?? "";
    const group = groups.get(owner);
    if (group) group.push(operation);
    else groups.set(owner, [operation]);
  }
  return groups;
}

/** @returns those that were missing; "busy" where they could not be put back, since somebody works on the attachment */
async function repairRules(
  { record, upkeep }: Kept,
  host: PluginHost,
  { dryRun, failed }: { readonly dryRun: boolean; readonly failed: RepairFailure[] },
): Promise<readonly string[] | "busy"> {
  try {
    const missing = (await upkeep.missingRules?.(record, host)) ?? [];
    if (missing.length === 0 || dryRun) return missing;
    using lock = new AttachmentClaim(host.directories.run);
    if (!lock.take(record.key) || !isStill(record, host)) return "busy";
    await upkeep.restoreRules?.(record, host);
    return missing;
  } catch (error) {
    failed.push({ key: record.key, plugin: record.plugin, reason: messageOf(error) });
    return [];
  }
}

async function tellRestored(
  repaired: readonly Kept[],
  host: PluginHost,
  failed: RepairFailure[],
): Promise<void> {
  for (const upkeep of new Set(repaired.map((each) => each.upkeep))) {
    const records = repaired.filter((each) => each.upkeep === upkeep).map(({ record }) => record);
    try {
      await upkeep.restored?.(records, host);
    } catch (error) {
      failed.push({ plugin: records[0]?.plugin ?? "", reason: messageOf(error) });
    }
  }
}

/** True if the record is still that of an attachment that is there. Settled only while its lock is held. */
function isStill(record: IntactRecord, host: PluginHost): boolean {
  const present = host.journal.read(record.key, record.plugin);
  return present?.phase === "done" && present.createdAtMs === record.createdAtMs;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
