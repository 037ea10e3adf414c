import { parts } from "#machine/parts.ts";
import type { Request } from "#netlink/message.ts";
import { addElements, deleteElements } from "#netlink/netfilter/set-element.ts";
import { definitionOf, type ElementRef, formatElement, type Operation, type SetId } from "./element.ts";
import { encodeElement, encodeKey, setName } from "./element-codec.ts";
import { largestSubnets } from "./shared-subnet.ts";
import { partsFor, type SkeletonPart, skeletonMarker } from "./skeleton.ts";

/** So that a message's list of elements stays below the 64 KiB of an attribute. */
const elementsPerMessage = 128;

/** One request of a transaction, and what to make of its refusal. */
export interface Step {
  readonly request: Request;
  readonly part: SkeletonPart;
  /** True for the request that finds out whether the skeleton is there. */
  readonly marker?: true;
  /** What it adds, of one set. */
  readonly adds?: readonly Operation[];
}

/**
 * One transaction: the markers of the tables concerned, then what is deleted, then what is added. It always changes the
 * ruleset's number, where all is there already too: somebody may be about to remove an interface's elements, having
 * looked before we came, and has to look again.
 */
export function stepsOf(
  operations: readonly Operation[],
  deleted: readonly ElementRef[] = [],
): readonly Step[] {
  const isSeen = operations.some(({ set }) => definitionOf(set).life === "attachment");
  return [
    ...partsOf(operations).map(markerStep),
    ...grouped(deleted).map(deleteStep),
    ...grouped(largestSubnets(operations)).flatMap((group) => addSteps(group, isSeen)),
  ];
}

export function markerStep(part: SkeletonPart): Step {
  const marker = skeletonMarker(part);
  const name = setName(definitionOf(marker.set));
  const request = addElements(`find the nftables skeleton ${part}`, name, [encodeElement(marker)]);
  return { request, part, marker: true };
}

/** Everything that has to be loaded for these elements. */
export function partsOf(operations: readonly Operation[]): readonly SkeletonPart[] {
  return [...new Set(operations.flatMap(partsFor))];
}

/**
 * An owned element is added, deleted and added again. The first fails if a map has another value for the key,
 * the others make the comment ours if the element was there; whoever looks meanwhile sees only the end.
 */
function addSteps(operations: readonly Operation[], isSeen: boolean): readonly Step[] {
  const [first] = operations;
  if (!first) return [];
  const definition = definitionOf(first.set);
  const add = addStep(operations);
  const isTakenOver = definition.life === "attachment" || (definition.life === "device" && !isSeen);
  if (!isTakenOver) return [add];
  const name = setName(definition);
  const take = deleteElements(`take over ${summary(operations)}`, name, operations.map(encodeKey));
  return [add, { ...add, request: take }, add];
}

/** All of one set. */
export function addStep(operations: readonly Operation[]): Step {
  const definition = definitionOf(operations[0]?.set ?? "masquerade4");
  const request = addElements(
    `add ${summary(operations)}`,
    setName(definition),
    operations.map(encodeElement),
  );
  return { request, part: definition.family, adds: operations };
}

export function deleteStep(refs: readonly ElementRef[]): Step {
  const definition = definitionOf(refs[0]?.set ?? "masquerade4");
  const request = deleteElements(`delete ${summary(refs)}`, setName(definition), refs.map(encodeKey));
  return { request, part: definition.family };
}

function summary(refs: readonly ElementRef[]): string {
  const [first] = refs;
  if (!first) return "nothing";
  return refs.length === 1 ? formatElement(first) : `${formatElement(first)} and ${refs.length - 1} more`;
}

/** By set, and in pieces that fit into one message. */
export function grouped<T extends ElementRef>(refs: readonly T[]): readonly (readonly T[])[] {
  const bySet = new Map<SetId, T[]>();
  for (const ref of refs) {
    const group = bySet.get(ref.set);
    if (group) group.push(ref);
    else bySet.set(ref.set, [ref]);
  }
  return [...bySet.values()].flatMap((group) => [...parts(group, elementsPerMessage)]);
}
