import { definitionOf, type ElementRef, type Operation, type SetId, type SharedSetId } from "./element.ts";
import { newestPolicies } from "./newest-policy.ts";
import type { Nftables, Turn, View } from "./nftables.ts";
import { sameOwner } from "./owner.ts";
import { type Keyed, withoutRivals } from "./rival-ports.ts";
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
   * Asked before anything is put back: of which attachments, by what `wanted` has of them, it may be. Nothing else is;
   * that of all if absent. `isMissing` tells of an attachment's element whether it, or another of the attachment's, is.
   */
  readonly claim?: (
    isMissing: (element: Keyed) => boolean,
  ) => Promise<(elements: readonly Keyed[]) => boolean>;
}

/**
 * Makes the suite's tables hold all of `wanted` again: the rules where a table is gone, then all elements in one
 * transaction.
 * Nothing that is there is touched, whoever's it is. Tables that none of `wanted` is in are left alone.
 * @param wanted what each attachment needs, the oldest first. Asked while no other change of this process's is under way
 * @throws {NetlinkError}
 * @throws {ProgramError} the rules can't be loaded
 * @throws what `wanted` and `claim` throw
 */
export async function restore(
  nftables: Nftables,
  wanted: () => Promise<readonly (readonly Keyed[])[]>,
  { dryRun = false, claim }: RestoreOptions = {},
): Promise<Restoration> {
  return await nftables.inOneTurn(async (turn) => {
    const attachments = await wanted();
    const all = newestPolicies(attachments.flat());
    const sets = new Set(all.map(({ operation: { set } }) => set));
    const tables: { family: TableFamily; was: SkeletonState }[] = [];
    for (const family of new Set([...sets].map((set) => definitionOf(set).family))) {
      const was = await nftables.skeletonState(family);
      if (was !== "current" && was !== "extended") tables.push({ family, was });
    }
    const { missing: gone } = look(all, turn.view);
    const operationsOf = (elements: readonly Keyed[]) => elements.map(({ operation }) => operation);
    if (dryRun) return { tables, elements: operationsOf(gone), failed: [] };
    const mine = gone.length > 0 && claim ? await claimed({ all, attachments, gone, claim }) : all;
    // The rules alone. What belongs to attachments is never left to a child process, which would go on for them when
    // this one has been killed, and their locks are free.
    const needed = operationsOf(all);
    if (tables.length > 0)
      await turn.run(tables.map(({ family }) => turn.skeleton(family, needed)).join("\n"));
    if (gone.length === 0) return { tables, elements: [], failed: [] };
    const mayReturn = new Set(mine);
    const failed = await addMissing(mine, turn);
    const left = new Set(failed.flatMap(({ elements }) => elements));
    const back = operationsOf(gone.filter((each) => mayReturn.has(each)));
    return { tables, elements: back.filter((each) => !left.has(each)), failed };
  });
}

interface Claim {
  readonly all: readonly Keyed[];
  readonly attachments: readonly (readonly Keyed[])[];
  readonly gone: readonly Keyed[];
  readonly claim: NonNullable<RestoreOptions["claim"]>;
}

/** Those of `all` that may be put back. What several attachments share may be for any of them. */
async function claimed({ all, attachments, gone, claim }: Claim): Promise<readonly Keyed[]> {
  const owners = new Set<string | undefined>(gone.map(({ operation: { owner } }) => owner));
  const shared = new Set(gone.filter(isNobodys).map(nameOf));
  const isClaimed = await claim((each) =>
    isNobodys(each) ? shared.size > 0 && shared.has(nameOf(each)) : owners.has(each.operation.owner),
  );
  const free = attachments.filter(isClaimed);
  if (free.length === attachments.length) return all;
  const elements = new Set(free.flat());
  const names = new Set([...elements].filter(isNobodys).map(nameOf));
  return all.filter((each) => (isNobodys(each) ? names.has(nameOf(each)) : elements.has(each)));
}

function isNobodys({ operation }: Keyed): boolean {
  return operation.owner === undefined;
}

/** The same for all that want this element of nobody's. */
function nameOf({ operation, key }: Keyed): string {
  return `${operation.set} ${key}`;
}

/**
 * What is still missing, in one transaction; where that is refused, in two for half of the attachments each, and so on:
 * what one can't have does not stop the rest.
 */
async function addMissing(
  wanted: readonly Keyed[],
  turn: Turn,
): Promise<readonly Restoration["failed"][number][]> {
  try {
    await turn.change((view) => changeFor(wanted, view));
    return [];
  } catch (error) {
    const byOwner = new Map<string | undefined, Keyed[]>();
    for (const each of wanted) {
      const group = byOwner.get(each.operation.owner);
      if (group) group.push(each);
      else byOwner.set(each.operation.owner, [each]);
    }
    if (byOwner.size <= 1) {
      const reason = error instanceof Error ? error.message : String(error);
      return [{ elements: wanted.map(({ operation }) => operation), reason }];
    }
    const groups = [...byOwner.values()];
    const half = groups.length >> 1;
    const failed: Restoration["failed"][number][] = [];
    for (const part of [groups.slice(0, half), groups.slice(half)])
      failed.push(...(await addMissing(part.flat(), turn)));
    return failed;
  }
}

function changeFor(wanted: readonly Keyed[], view: View) {
  const { missing, covered } = look(wanted, view);
  return {
    remove: missing.length === 0 ? [] : covered,
    add: missing.map(({ operation }) => operation),
  };
}

/**
 * What of `wanted` is missing, without what can't be added: keys that are somebody else's, subnets that a larger one
 * covers. And the subnets that the missing ones cover, which have to make room.
 */
function look(
  wanted: readonly Keyed[],
  view: View,
): { readonly missing: readonly Keyed[]; readonly covered: readonly ElementRef[] } {
  const subnets = new Map<string, Keyed>();
  const there: Keyed[] = [];
  const absent: Keyed[] = [];
  const tables = new Map<SetId, { readonly present: ReadonlyMap<string, string>; readonly seen: Seen }>();
  for (const each of wanted) {
    const { operation, key } = each;
    if (isShared(operation)) {
      subnets.set(nameOf(each), each);
      continue;
    }
    let table = tables.get(operation.set);
    if (!table)
      tables.set(operation.set, (table = { present: view.comments(operation.set), seen: new Seen() }));
    if (!table.seen.isNew(key, operation.owner)) continue;
    const comment = table.present.get(key);
    if (comment === undefined) absent.push(each);
    else if (operation.owner !== undefined && isOf(comment, operation.owner)) there.push(each);
  }
  const shared = [...subnets.values()].map((each) => each.operation).filter(isShared);
  const presentSubnets = [...new Set(shared.map((each) => each.set))].flatMap((set) =>
    view.list(set).map(({ key }): SharedRef => ({ set, key })),
  );
  const largest = largestSubnets(
    shared.filter(({ set, key: [subnet] }) => {
      return !presentSubnets.some((other) => other.set === set && contains(other.key[0], subnet));
    }),
  );
  const covered = presentSubnets.filter(({ set, key: [other] }) => {
    return largest.filter(isShared).some((each) => each.set === set && contains(each.key[0], other));
  });
  const names = new Map<Operation, Keyed>([...subnets.values()].map((each) => [each.operation, each]));
  const missing = largest.flatMap((each) => names.get(each) ?? []);
  return { missing: [...missing, ...withoutRivals(absent, there)], covered };
}

/** As a rule the comment is the tag itself. */
function isOf(comment: string, owner: string): boolean {
  return comment === owner || sameOwner(comment, owner);
}

/** Who has asked for which key of one set: mostly one for each key. */
class Seen {
  readonly #first = new Map<string, string | undefined>();
  readonly #others = new Set<string>();

  /** True for a key that this owner has not asked for before: of several that want one, each counts. */
  isNew(key: string, owner: string | undefined): boolean {
    if (!this.#first.has(key)) {
      this.#first.set(key, owner);
      return true;
    }
    const other = `${owner ?? ""} ${key}`;
    if (this.#first.get(key) === owner || this.#others.has(other)) return false;
    this.#others.add(other);
    return true;
  }
}
