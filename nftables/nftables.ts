import { closeSync, openSync } from "node:fs";
import { BlockingCall } from "#machine/blocking-call.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { parts } from "#machine/parts.ts";
import { type Cidr, overlaps } from "#net/cidr.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError, NetlinkError } from "#netlink/error.ts";
import type { Request } from "#netlink/message.ts";
import { batchLead, nftBatch, readGeneration } from "#netlink/netfilter/batch.ts";
import { NetfilterFamily } from "#netlink/netfilter/header.ts";
import { decodeElements, dumpElements, getElement, type SetElement } from "#netlink/netfilter/set-element.ts";
import { isDormant, isThere, type Place } from "#netlink/netfilter/table.ts";
import { NetlinkSocket, Protocol } from "#netlink/socket.ts";
import {
  definitionOf,
  type ElementRef,
  formatElement,
  type Operation,
  type PresentElement,
  type SetId,
  type SharedSetId,
} from "./element.ts";
import { decodeElement, encodeKey, presentComment, presentKeyText, setName } from "./element-codec.ts";
import { difference, sameValue } from "./element-difference.ts";
import { ConflictError, type Difference, NftablesUnavailableError } from "./error.ts";
import { Nft } from "./nft.ts";
import { type OwnerTag, sameOwner } from "./owner.ts";
import type { ProgramOptions } from "./program.ts";
import { type OptionalPart, type TableFamily, tableName } from "./set-definition.ts";
import { contains, isShared, type SharedOperation } from "./shared-subnet.ts";
import {
  compareSkeleton,
  type Extras,
  optionalPartsOf,
  partsFor,
  type SkeletonPart,
  type SkeletonState,
  setsOfPart,
  skeletonMarker,
  skeletonText,
  skeletonVersion,
  tableOf,
} from "./skeleton.ts";
import { addStep, deleteStep, grouped, markerStep, partsOf, type Step, stepsOf } from "./steps.ts";

/** Another writer's commit between our look and our batch: each attempt means that somebody got on. */
const maxRestarts = 256;
/** One for each of the two tables of a flushed ruleset; again where it is flushed while we work. */
const maxLoads = 10;
const readsPerDatagram = 64;

/** One element to remove, if it is still its owner's. */
export interface Removal {
  readonly ref: ElementRef;
  readonly owner: OwnerTag;
}

/** What a plan may look at: all of it belongs to one moment. */
export interface View {
  /** One answer for each reference: the element with that key or, in an interval set, the range that contains it. */
  read(refs: readonly ElementRef[]): readonly (PresentElement | undefined)[];
  list<I extends SetId>(set: I): readonly PresentElement<I>[];
  /** The comment of each element of a set, by `keyText()`: for looks at all there is. */
  comments(set: SetId): ReadonlyMap<string, string>;
}

/** What a plan wants changed. Nothing of `add` may be there after `remove`, but what is shared. */
export interface Change {
  readonly remove: readonly ElementRef[];
  readonly add: readonly Operation[];
}

/** Those of the elements that still belong to who wants them removed. */
export function stillOwned(view: View, removals: readonly Removal[]): readonly ElementRef[] {
  const present = view.read(removals.map((removal) => removal.ref));
  return removals
    .filter((removal, index) => sameOwner(present[index]?.comment ?? "", removal.owner))
    .map((removal) => removal.ref);
}

/** Several steps with no other change of this process's between them. */
export interface Turn {
  readonly view: View;
  /** As `Nftables.change`. */
  change(plan: (view: View) => Change): Promise<void>;
  /** The rules that these elements, and those that are there, need: in nft's language, for `run`. */
  skeleton(family: TableFamily, operations: readonly Operation[]): string;
  /** Commands in nft's language, as one transaction. @throws {ProgramError} */
  run(script: string): Promise<void>;
}

/**
 * The suite's nftables tables in one network namespace. Elements come and go as raw netlink transactions of
 * tens of microseconds; the rules are loaded by the nft program, when they are first needed or found missing.
 */
export class Nftables {
  /** Reads everything there is, foreign tables included. */
  readonly nft: Nft;
  readonly #namespacePath: string | undefined;
  /** For commits, one at a time, which wait while another program commits. */
  readonly #committing = new BlockingCall();
  #writer: NetlinkSocket | undefined;
  /** For all that never waits. */
  #reader: NetlinkSocket | undefined;
  readonly #listeners = new Set<(generation: number) => void>();
  #lastTurn: Promise<unknown> = Promise.resolve();

  /** Touches nothing yet. */
  constructor(options: ProgramOptions = {}) {
    this.nft = new Nft(options);
    this.#namespacePath = options.namespacePath;
  }

  /**
   * Adds all elements in one transaction, of one attachment or of several together, and loads the skeleton
   * first where it is missing or of another version. What is there already is fine. An element of another owner
   * is taken over; but a map's, if its value differs, is a conflict.
   * @throws {ConflictError} nothing was done
   * @throws {NetlinkError}
   * @throws {ProgramError} the skeleton can't be loaded
   */
  async apply(operations: readonly Operation[]): Promise<void> {
    if (operations.length > 0) await this.#inTurn(async () => await this.#apply(operations));
  }

  /**
   * Removes the elements that still belong to `owner`, in one transaction. What is missing or somebody else's
   * by now is left as it is.
   * @throws {NetlinkError}
   */
  async removeOwned(refs: readonly ElementRef[], owner: OwnerTag): Promise<void> {
    await this.remove(refs.map((ref) => ({ ref, owner })));
  }

  /** `removeOwned` for several owners at once. @throws {NetlinkError} */
  async remove(removals: readonly Removal[]): Promise<void> {
    // Also where there is no nf_tables to be asked.
    if (removals.length === 0) return;
    await this.change((view) => ({ remove: stillOwned(view, removals), add: [] }));
  }

  /**
   * Looks and changes in one step: what `plan` wants is done in one transaction, and only if nobody has changed
   * anything since it looked; else it is asked again. It may be asked often, so it has to be quick, and may throw.
   * Loads the skeleton where it is missing.
   * @throws {NetlinkError}
   * @throws {ProgramError} the skeleton can't be loaded
   */
  async change(plan: (view: View) => Change): Promise<void> {
    await this.#inTurn(async () => await this.#change(plan));
  }

  /** Runs `work` while all other changes of this process wait. Only what it is given may be used to change anything. */
  async inOneTurn<T>(work: (turn: Turn) => Promise<T>): Promise<T> {
    return await this.#inTurn(
      async () =>
        await work({
          view: this.#view,
          change: async (plan) => await this.#change(plan),
          skeleton: (family, operations) => skeletonText(family, this.#extras(family, partsOf(operations))),
          run: async (script) => await this.nft.run(script),
        }),
    );
  }

  /** The netlink address that this commits from. It stays the same until `close()`. @throws {NetlinkError} */
  port(): number {
    this.#writer ??= this.#open();
    return this.#writer.port;
  }

  /**
   * Has each commit's number told from now on, so that it can be known from those of others.
   * @returns ends that
   */
  onCommit(listener: (generation: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The number of the ruleset, which every commit of anybody raises. @throws {NetlinkError} */
  generation(): number {
    return readGeneration(this.#read());
  }

  /** Whether a table or chain is there, whoever has made it. @throws {NetlinkError} */
  isThere(place: Place): boolean {
    return isThere(this.#read(), place);
  }

  /** True if the table is there, with the marker of this version: the cheapest of all looks. @throws {NetlinkError} */
  hasSkeleton(family: TableFamily): boolean {
    return this.#versionOf(family) === skeletonVersion;
  }

  /** The element, `undefined` if there is none. Like `nft get element`. @throws {NetlinkError} */
  async read(ref: ElementRef): Promise<PresentElement | undefined> {
    return this.#readAll([ref])[0];
  }

  /** All elements of a set; none without skeleton. Leaves out what is no value of ours. @throws {NetlinkError} */
  async list<I extends SetId>(set: I): Promise<readonly PresentElement<I>[]> {
    return this.#list(set);
  }

  /**
   * Compares what should be there with what is, for CHECK. Empty if all is well. The skeleton's own rules are
   * `skeletonState`'s concern.
   * @throws {NetlinkError}
   */
  async differences(operations: readonly Operation[]): Promise<readonly Difference[]> {
    const present = this.#readAll(operations);
    return operations.flatMap((operation, index) => {
      const message = isShared(operation)
        ? this.#isCovered(operation)
          ? undefined
          : `${formatElement(operation)} is missing`
        : difference(operation, present[index]);
      return message === undefined ? [] : [{ element: operation, message }];
    });
  }

  /**
   * Removes the shared elements of subnets that no network uses any more.
   * @param inUse the subnets of all networks that there are; undefined if that is not known, and then all stay. Asked
   * again where somebody has changed something meanwhile, as it may have been for a network that has just come
   * @throws {NetlinkError}
   */
  async retainSubnets(inUse: () => readonly Cidr[] | undefined): Promise<void> {
    await this.change((view) => {
      const used = inUse();
      if (!used) return { remove: [], add: [] };
      const stale = (set: SharedSetId): readonly ElementRef[] =>
        view
          .list(set)
          .filter(({ key: [subnet] }) => !used.some((each) => overlaps(each, subnet)))
          .map(({ key }) => ({ set, key }));
      return { remove: [...stale("sameSubnet4"), ...stale("sameSubnet6")], add: [] };
    });
  }

  /** Whether the rules are as this version wants them. Costs a run of nft. @throws {ProgramError} */
  async skeletonState(family: TableFamily): Promise<SkeletonState> {
    const listing = await this.nft.listSkeleton(family);
    const extras = this.#extras(family);
    const versions = [family, ...extras].map((part) => this.#versionOf(part));
    const state = compareSkeleton(family, { listing, versions, extras });
    // Which nft 1.0.6 does not tell in JSON.
    const isAsleep = listing !== undefined && isDormant(this.#read(), NetfilterFamily[family], tableName);
    return isAsleep && (state === "current" || state === "extended") ? "damaged" : state;
  }

  /**
   * Loads the skeleton of one table, with the optional parts that its elements need: makes, repairs or upgrades it, and
   * keeps the elements that are there. `apply` does so by itself.
   * @throws {ProgramError}
   */
  async load(family: TableFamily): Promise<void> {
    await this.#inTurn(async () => await this.#load(family));
  }

  /**
   * Makes sure that nftables can be used, without changing or starting anything.
   * @throws {NftablesUnavailableError}
   */
  async usable(): Promise<void> {
    try {
      await this.nft.find();
    } catch (cause) {
      throw new NftablesUnavailableError(cause instanceof Error ? cause.message : String(cause), cause);
    }
    try {
      readGeneration(this.#read());
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new NftablesUnavailableError(`the kernel refuses nf_tables: ${reason}`, cause);
    }
  }

  /** Closes the sockets; the next call opens others. */
  close(): void {
    this.#reader?.close();
    this.#writer?.close();
    this.#reader = undefined;
    this.#writer = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  get #view(): View {
    return {
      read: (refs) => this.#readAll(refs),
      list: (set) => this.#list(set),
      comments: (set) => new Map(this.#dump(set).map((each) => [presentKeyText(set, each), commentOf(each)])),
    };
  }

  #read(): NetlinkSocket {
    this.#reader ??= this.#open();
    return this.#reader;
  }

  #open(): NetlinkSocket {
    if (this.#namespacePath === undefined) return NetlinkSocket.open({ protocol: Protocol.Netfilter });
    const namespaceFd = openSync(this.#namespacePath, "r");
    try {
      return NetlinkSocket.open({ protocol: Protocol.Netfilter, namespaceFd });
    } finally {
      closeSync(namespaceFd);
    }
  }

  /** One change after the other: each commit of our own would make the others' looks out of date. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#lastTurn.then(work);
    this.#lastTurn = turn.catch(() => undefined);
    return await turn;
  }

  async #load(family: TableFamily, needed: readonly SkeletonPart[] = []): Promise<void> {
    let extras = this.#extras(family, needed);
    for (;;) {
      const failure = await this.nft.run(skeletonText(family, extras)).then(
        () => undefined,
        (error: unknown) => error,
      );
      crashPoint("skeleton-loaded");
      // Another process may have loaded a part meanwhile, or an earlier version, which knows none, added what needs it.
      const now = this.#extras(family, [...extras]);
      if (now.size === extras.size) {
        if (failure !== undefined) throw failure;
        return;
      }
      extras = now;
    }
  }

  /** Those of `needed`, and all that are loaded, in whatever version, or without which elements mean nothing. */
  #extras(family: TableFamily, needed: readonly SkeletonPart[] = []): Extras {
    const isWanted = (part: OptionalPart) =>
      needed.includes(part) ||
      this.#versionOf(part) !== undefined ||
      setsOfPart(part).some((set) =>
        this.#list(set).some(({ key }) => partsFor({ set, key }).includes(part)),
      );
    return new Set(optionalPartsOf(family).filter(isWanted));
  }

  #versionOf(part: SkeletonPart): unknown {
    return this.#readAll([skeletonMarker(part)])[0]?.value?.[0];
  }

  async #apply(operations: readonly Operation[]): Promise<void> {
    let loads = 0;
    let overlapping = false;
    for (let restarts = 0; ; restarts++) {
      const steps = overlapping ? this.#stepsAmongOverlaps(operations) : stepsOf(operations);
      const error = await this.#commit(steps.map((step) => step.request));
      if (!error) return;
      if (restarts >= maxRestarts) throw error;
      if (isRestart(error)) continue;
      const step = steps[error.index - batchLead];
      if (!step) throw error;
      if (isSkeletonMissing(error, step)) {
        if (++loads > maxLoads) throw error;
        await this.#load(tableOf(step.part), partsOf(operations));
      } else if (error.errno === Errno.EEXIST) {
        this.#throwConflict(step.adds ?? []);
        // No other owner, so it is a subnet that overlaps another; or a conflict that has just gone away.
        overlapping = true;
      } else {
        throw error;
      }
    }
  }

  async #change(plan: (view: View) => Change): Promise<void> {
    const view = this.#view;
    let loads = 0;
    for (let restarts = 0; ; restarts++) {
      const generation = readGeneration(this.#read());
      const { remove, add } = plan(view);
      if (remove.length === 0 && add.length === 0) return;
      crashPoint("elements-planned");
      const steps = [
        ...partsOf(add).map(markerStep),
        ...grouped(remove).map(deleteStep),
        ...grouped(add).map(addStep),
      ];
      const error = await this.#commit(
        steps.map((step) => step.request),
        generation,
      );
      crashPoint(add.length === 0 ? "elements-removed" : "elements-changed");
      if (!error) return;
      const step = steps[error.index - batchLead];
      if (isRestart(error)) {
        if (restarts >= maxRestarts) throw error;
      } else if (step && isSkeletonMissing(error, step)) {
        if (++loads > maxLoads) throw error;
        await this.#load(tableOf(step.part), partsOf(add));
      } else {
        throw error;
      }
    }
  }

  /**
   * The kernel refuses ranges that overlap, so the largest of several subnets has to stand for all: what is
   * covered by it is not added, and what it covers is deleted.
   */
  #stepsAmongOverlaps(operations: readonly Operation[]): readonly Step[] {
    const added = operations.filter((operation) => !isShared(operation) || !this.#isCovered(operation));
    const covered = added.filter(isShared).flatMap(({ set, key: [subnet] }) =>
      this.#list(set)
        .filter(({ key: [other] }) => contains(subnet, other))
        .map(({ key }) => ({ set, key })),
    );
    return stepsOf(added, covered);
  }

  /** True if the subnet, or a larger one around it, is in the set. */
  #isCovered({ set, key: [subnet] }: SharedOperation): boolean {
    return this.#list(set).some(({ key: [other] }) => contains(other, subnet));
  }

  /** What the kernel refused, if it did. */
  async #commit(requests: readonly Request[], generation?: number): Promise<NetlinkError | undefined> {
    try {
      const writer = (this.#writer ??= this.#open());
      const batch = nftBatch(requests, generation);
      await this.#committing.run(
        () => writer.transact(batch),
        () => writer.transactAsync(batch),
      );
      this.#tellCommit();
      return undefined;
    } catch (error) {
      if (error instanceof NetlinkError) return error;
      throw error;
    }
  }

  /** Somebody else may have been faster with a commit of his, which is told of anyhow: then ours is taken for missed. */
  #tellCommit(): void {
    if (this.#listeners.size === 0) return;
    try {
      const generation = readGeneration(this.#read());
      for (const listener of this.#listeners) listener(generation);
    } catch (error) {
      // What was committed is.
      if (!(error instanceof NetlinkError)) throw error;
    }
  }

  /** One answer for each reference: the element with that key or, in an interval set, the range that contains it. */
  #readAll(refs: readonly ElementRef[]): readonly (PresentElement | undefined)[] {
    const socket = this.#read();
    return [...parts(refs, readsPerDatagram)].flatMap((chunk) => {
      const requests = chunk.map((ref) => {
        return getElement(`read ${formatElement(ref)}`, setName(definitionOf(ref.set)), encodeKey(ref));
      });
      const outcomes = socket.attempt(requests);
      return chunk.map((ref, index) => {
        const outcome = outcomes[index];
        if (outcome && outcome.errno !== 0 && outcome.errno !== Errno.ENOENT) throw outcome.error;
        const [element] = (outcome?.messages ?? []).flatMap(decodeElements);
        if (!element) return undefined;
        // What another hand put there, as a range that is no prefix, still takes the key's place.
        return tryDecode(ref.set, element) ?? { key: ref.key, comment: "" };
      });
    });
  }

  #list<I extends SetId>(set: I): readonly PresentElement<I>[] {
    return this.#dump(set).flatMap((element) => {
      return (tryDecode(set, element) as PresentElement<I> | undefined) ?? [];
    });
  }

  #dump(set: SetId): readonly SetElement[] {
    const definition = definitionOf(set);
    try {
      const messages = this.#read().dump(dumpElements(`list ${definition.name}`, setName(definition)));
      return messages.flatMap(decodeElements);
    } catch (error) {
      if (isNetlinkError(error, Errno.ENOENT)) return [];
      throw error;
    }
  }

  #throwConflict(operations: readonly Operation[]): void {
    const present = this.#readAll(operations);
    for (const [index, operation] of operations.entries()) {
      const other = present[index];
      if (other && !sameValue(operation, other)) throw new ConflictError(operation, other);
    }
  }
}

/** ERESTART: another ruleset than the one we looked at. The others: a signal, or a module that had to be loaded. */
function isRestart(error: NetlinkError): boolean {
  return [Errno.ERESTART, Errno.EAGAIN, Errno.EINTR].some((errno) => errno === error.errno);
}

/** The table, a set of it, an optional part, or the marker of this version. */
function isSkeletonMissing(error: NetlinkError, step: Step): boolean {
  return error.errno === Errno.ENOENT || (error.errno === Errno.EEXIST && step.marker === true);
}

/** What another hand has written there, whatever it is, is nobody's of ours. */
function commentOf(element: SetElement): string {
  try {
    return presentComment(element);
  } catch (error) {
    if (error instanceof DecodeError) return "";
    throw error;
  }
}

function tryDecode(set: SetId, element: SetElement): PresentElement | undefined {
  try {
    return decodeElement(set, element);
  } catch (error) {
    if (error instanceof RangeError || error instanceof DecodeError) return undefined;
    throw error;
  }
}
