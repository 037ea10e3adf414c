import { definitionOf } from "./element.ts";
import { ingressPolicySets } from "./ingress-policy.ts";
import { networkPolicySets } from "./network-policy.ts";
import type { Keyed } from "./rival-ports.ts";

const holders: ReadonlySet<string> = new Set([networkPolicySets.holder, ingressPolicySets.holder]);

/**
 * Of what several attachments say to hold for one interface, what the last one says: a network's configuration may have
 * been changed between one container and the next, and then holds for all of them.
 * @param wanted of the attachments one after the other, the oldest first; of each, a policy's holder comes before
 * the rest of the policy, and nothing comes between
 */
export function newestPolicies(wanted: readonly Keyed[]): readonly Keyed[] {
  const kept: Keyed[] = [];
  const newest = new Map<string, Keyed[]>();
  let group: Keyed[] | undefined;
  for (const each of wanted) {
    const { operation, key } = each;
    if (definitionOf(operation.set).life !== "device") {
      kept.push(each);
      group = undefined;
    } else if (holders.has(operation.set)) {
      group = [each];
      newest.set(`${operation.set} ${key}`, group);
    } else {
      group?.push(each);
    }
  }
  return [...[...newest.values()].flat(), ...kept];
}
