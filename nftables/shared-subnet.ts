import { type Cidr, overlaps } from "#net/cidr.ts";
import { definitionOf, formatElement, type Operation, type SharedSetId } from "./element.ts";

/** The element of a subnet, which its attachments share. */
export type SharedOperation = Extract<Operation, { readonly set: SharedSetId }>;

export function isShared(operation: Operation): operation is SharedOperation {
  return definitionOf(operation.set).life === "network";
}

/** True if all addresses of `inner` are in `outer`. */
export function contains(outer: Cidr, inner: Cidr): boolean {
  return outer.prefixLength <= inner.prefixLength && overlaps(outer, inner);
}

/**
 * The kernel refuses ranges that overlap, and attachments that share a transaction mostly share their subnet too: of
 * subnets that overlap, the largest is enough.
 */
export function largestSubnets(operations: readonly Operation[]): readonly Operation[] {
  const shared = [
    ...new Map(operations.filter(isShared).map((each) => [formatElement(each), each])).values(),
  ];
  const largest = shared.filter(({ key: [subnet] }) => {
    return !shared.some(
      ({ key: [other] }) => other.prefixLength < subnet.prefixLength && contains(other, subnet),
    );
  });
  return [...largest, ...operations.filter((operation) => !isShared(operation))];
}
