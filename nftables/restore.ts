import { definitionOf, type ElementRef, formatElement, type Operation, type SharedSetId } from "./element.ts";
import { newestPolicies } from "./newest-policy.ts";
import type { Nftables, Turn, View } from "./nftables.ts";
import { sameOwner } from "./owner.ts";
import { withoutRivals } from "./rival-ports.ts";
import type { TableFamily } from "./set-definition.ts";
import { contains, isShared, largestSubnets } from "./shared-subnet.ts";
import type { SkeletonState } from "./skeleton.ts";

type SharedRef = ElementRef<SharedSetId>;

/** What was missing of the suite's tables; put back, unless it was only looked. */
export interface Restoration {
  /** Tables that were not as this version wants them. */
  readonly tables: readonly { readonly family: TableFamily; readonly was: SkeletonState }[];
  readonly elements: readonly Operation[];
  /** Elements that could not be put back, and why: another hand has put something in their place. */
  readonly failed: readonly { readonly elements: readonly Operation[]; readonly reason: string }[];
}

export interface RestoreOptions {
  /** Only look. */
  readonly dryRun?: boolean;
  /**
   * Asked with what is missing, before anything is put back: which elements may be. Nothing else is; all of them if absent.
   */
  readonly claim?: (missing: readonly Operation[]) => Promise<(operation: Operation) => boolean>;
}

/**
 * Makes the suite's tables hold all of `wanted` again: the rules where a table is gone, then all elements in one
 * transaction.
 * Nothing that is there is touched, whoever's it is. Tables that none of `wanted` is in are left alone.
 * @param wanted what all attachments need, the oldest first. Asked while no other change of this process's is under way
 * @throws {NetlinkError}
 * @throws {ProgramError} the rules can't be loaded
 * @throws what `wanted` and `claim` throw
 */
export async function restore(
  nftables: Nftables,
  wanted: () => Promise<readonly Operation[]>,
  { dryRun = false, claim }: RestoreOptions = {},
): Promise<Restoration> {
  return await nftables.inOneTurn(async (turn) => {
    const operations = newestPolicies(await wanted());
    const families = [...new Set(operations.map((each) => definitionOf(each.set).family))];
    const tables: { family: TableFamily; was: SkeletonState }[] = [];
    for (const family of families) {
      const was = await nftables.skeletonState(family);
      if (was !== "current" && was !== "extended") tables.push({ family, was });
    }
    const { missing: gone } = look(operations, turn.view);
    if (dryRun) return { tables, elements: gone, failed: [] };
    const mayReturn = gone.length > 0 && claim ? await claim(gone) : () => true;
    const missing = gone.filter(mayReturn);
    // The rules alone. What belongs to attachments is never left to a child process, which would go on for them when
    // this one has been killed, and their locks are free.
    if (tables.length > 0)
      await turn.run(tables.map(({ family }) => turn.skeleton(family, operations)).join("\n"));
    const failed = missing.length > 0 ? await addMissing(operations.filter(mayReturn), turn) : [];
    const left = new Set(failed.flatMap(({ elements }) => elements.map(identity)));
    return { tables, elements: missing.filter((each) => !left.has(identity(each))), failed };
  });
}

/** What is still missing, in one transaction; or one for each owner, so that what one can't have does not stop the rest. */
async function addMissing(
  operations: readonly Operation[],
  turn: Turn,
): Promise<readonly Restoration["failed"][number][]> {
  try {
    await turn.change((view) => changeFor(operations, view));
    return [];
  } catch {
    const byOwner = new Map<string, Operation[]>();
    for (const operation of operations) {
      const owner = operation.owner ?? "";
      byOwner.set(owner, [...(byOwner.get(owner) ?? []), operation]);
    }
    const failed: Restoration["failed"][number][] = [];
    for (const elements of byOwner.values()) {
      try {
        await turn.change((view) => changeFor(elements, view));
      } catch (error) {
        failed.push({ elements, reason: error instanceof Error ? error.message : String(error) });
      }
    }
    return failed;
  }
}

function changeFor(operations: readonly Operation[], view: View) {
  const { missing, covered } = look(operations, view);
  return { remove: missing.length === 0 ? [] : covered, add: missing };
}

/**
 * What of `operations` is missing, without what can't be added: keys that are somebody else's, subnets that a larger one
 * covers. And the subnets that the missing ones cover, which have to make room.
 */
function look(
  operations: readonly Operation[],
  view: View,
): { readonly missing: readonly Operation[]; readonly covered: readonly ElementRef[] } {
  const unique = [...new Map(operations.map((each) => [identity(each), each])).values()];
  const subnets = unique.filter(isShared);
  const present = new Map<string, { readonly comment: string }>();
  for (const set of new Set(unique.filter((each) => !isShared(each)).map((each) => each.set))) {
    for (const { key, comment } of view.list(set)) present.set(formatElement({ set, key }), { comment });
  }
  const there: Operation[] = [];
  const absent: Operation[] = [];
  for (const each of unique) {
    if (isShared(each)) continue;
    const found = present.get(formatElement({ set: each.set, key: each.key }));
    if (!found) absent.push(each);
    else if (each.owner !== undefined && sameOwner(found.comment, each.owner)) there.push(each);
  }
  const presentSubnets = [...new Set(subnets.map((each) => each.set))].flatMap((set) =>
    view.list(set).map(({ key }): SharedRef => ({ set, key })),
  );
  const largest = largestSubnets(
    subnets.filter(({ set, key: [subnet] }) => {
      return !presentSubnets.some((other) => other.set === set && contains(other.key[0], subnet));
    }),
  );
  const covered = presentSubnets.filter(({ set, key: [other] }) => {
    return largest.filter(isShared).some((each) => each.set === set && contains(each.key[0], other));
  });
  return { missing: [...largest, ...withoutRivals(absent, there)], covered };
}

/** Of several attachments that want one key, each counts. */
function identity(operation: Operation): string {
  return `${operation.owner ?? ""} ${formatElement({ set: operation.set, key: operation.key })}`;
}
