import { definitionOf, formatElement, type Operation } from "./element.ts";
import { ingressPolicySets } from "./ingress-policy.ts";
import { networkPolicySets } from "./network-policy.ts";

const holders: ReadonlySet<string> = new Set([networkPolicySets.holder, ingressPolicySets.holder]);

/**
 * Of what several attachments say to hold for one interface, what the last one says: a network's configuration may have
 * been changed between one container and the next, and then holds for all of them.
 * @param operations of the attachments one after the other, the oldest first; of each, a policy's holder comes before
 * the rest of the policy, and nothing comes between
 */
export function newestPolicies(operations: readonly Operation[]): readonly Operation[] {
  const kept: Operation[] = [];
  const newest = new Map<string, Operation[]>();
  let group: Operation[] | undefined;
  for (const operation of operations) {
    if (definitionOf(operation.set).life !== "device") {
      kept.push(operation);
      group = undefined;
    } else if (holders.has(operation.set)) {
      group = [operation];
      newest.set(formatElement({ set: operation.set, key: operation.key }), group);
    } else {
      group?.push(operation);
    }
  }
  return [...[...newest.values()].flat(), ...kept];
}
