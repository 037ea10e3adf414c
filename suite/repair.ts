import type { AttachmentKey, IntactRecord } from "#journal/record.ts";
import { definitionOf, type ElementRef, formatElement, type Operation } from "#nftables/element.ts";
import { ownerTag } from "#nftables/owner.ts";
import { type Restoration, restore } from "#nftables/restore.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type Kept, readKept } from "./kept.ts";

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

export interface RepairOptions {
  /** Only look. */
  readonly dryRun?: boolean;
}

/**
 * Puts back what another hand has taken away of this host's attachments: rules, elements of the suite's tables, rules
 * that plugins have elsewhere. What attachments must have follows from the journal. Goes on after an error.
 *
 * A DEL that comes meanwhile wins: in this process it waits for its turn, and after one of another process what was put
 * back for the attachment is taken away again.
 */
export async function repair(host: PluginHost, { dryRun = false }: RepairOptions = {}): Promise<Repair> {
  let kept: readonly Kept[] = [];
  let unsettled = false;
  const failed: RepairFailure[] = [];
  const restoration = await restore(
    host.nftables,
    async () => {
      const found = await readKept(host);
      ({ kept, unsettled } = found);
      return kept.flatMap(({ record, upkeep }) => upkeep.elements(record));
    },
    { dryRun },
  );
  for (const { elements, reason } of restoration.failed) {
    const owner = kept.find(({ record }) => ownerOf(record) === elements[0]?.owner);
    failed.push({ ...(owner ? { key: owner.record.key, plugin: owner.record.plugin } : {}), reason });
  }
  const byOwner = groupByOwner(restoration.elements);
  const repaired: { kept: Kept; elements: readonly Operation[]; rules: readonly string[] }[] = [];
  for (const each of kept) {
    const ofOwner = byOwner.get(ownerOf(each.record)) ?? [];
    // Plugins of one chain share the owner.
    const own = new Set(ofOwner.length > 0 ? each.upkeep.elements(each.record).map(formatElement) : []);
    const elements = ofOwner.filter((one) => own.has(formatElement(one)));
    const rules = await repairRules(each, host, { dryRun, failed });
    if (elements.length + rules.length > 0) repaired.push({ kept: each, elements, rules });
  }
  if (!dryRun) {
    await tellRestored(
      repaired.map((each) => each.kept),
      host,
      failed,
    );
    await takeBackLeft(repaired, host, failed);
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
    unsettled,
  };
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

/** @returns those that were missing */
async function repairRules(
  { record, upkeep }: Kept,
  host: PluginHost,
  { dryRun, failed }: { readonly dryRun: boolean; readonly failed: RepairFailure[] },
): Promise<readonly string[]> {
  try {
    const missing = (await upkeep.missingRules?.(record, host)) ?? [];
    if (missing.length > 0 && !dryRun && isStill(record, host)) await upkeep.restoreRules?.(record, host);
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

/** A DEL of another process may have come between the reading of a record and the putting back. */
async function takeBackLeft(
  repaired: readonly { readonly kept: Kept; readonly elements: readonly Operation[] }[],
  host: PluginHost,
  failed: RepairFailure[],
): Promise<void> {
  for (const { kept, elements } of repaired) {
    const { record, upkeep } = kept;
    if (isStill(record, host)) continue;
    const present = host.journal.read(record.key, record.plugin);
    // Another ADD of the same attachment may need the same. One that is leaving needs nothing any more: its DEL may have
    // taken its elements away before they were put back here, and will not look again.
    const isNeeded = present?.phase === "intent" || present?.phase === "done";
    const needed = new Set(isNeeded ? upkeep.elements(present).map(formatElement) : []);
    const refs = elements
      .filter((each) => definitionOf(each.set).life === "attachment" && !needed.has(formatElement(each)))
      .map(({ set, key }) => ({ set, key }) as ElementRef);
    const { network, containerId, ifName } = record.key;
    try {
      await host.nftables.removeOwned(refs, ownerTag(network, containerId, ifName));
    } catch (error) {
      failed.push({ key: record.key, plugin: record.plugin, reason: messageOf(error) });
    }
  }
}

/** True if the record is still that of an attachment that is there. */
function isStill(record: IntactRecord, host: PluginHost): boolean {
  const present = host.journal.read(record.key, record.plugin);
  return present?.phase === "done" && present.createdAtMs === record.createdAtMs;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
