import { formatIp, type IpAddress } from "#net/ip.ts";
import type { ElementRef, Operation, OwnedSetId } from "./element.ts";
import type { PortRange, Protocol } from "./field.ts";
import type { OwnerTag } from "./owner.ts";

/** Ports of a container that are reached by its own address, in a network that is routed to (`skeleton-forward.ts`). */
export interface RoutedPorts {
  readonly container: IpAddress;
  readonly protocol: Protocol;
  readonly ports: PortRange;
}

const sets = {
  4: { port: "routedPorts4", range: "routedPortRanges4" },
  6: { port: "routedPorts6", range: "routedPortRanges6" },
} as const;

export const routedPortSets = [
  "routedPorts4",
  "routedPorts6",
  "routedPortRanges4",
  "routedPortRanges6",
] as const satisfies readonly OwnedSetId[];

type RoutedSetId = (typeof routedPortSets)[number];

/** As for translated ports: with each commit that touches it, the kernel copies an interval set. */
const leastRangeLength = 32;

/** The elements that let connections to these ports pass. */
export function routedPortElements(routed: readonly RoutedPorts[], owner: OwnerTag): readonly Operation[] {
  return routedPortRefs(routed).map((ref): Operation => ({ ...ref, owner }));
}

/** The elements that DEL has to remove. */
export function routedPortRefs(routed: readonly RoutedPorts[]): readonly ElementRef<RoutedSetId>[] {
  const seen = new Set<string>();
  return routed.flatMap(({ container, protocol, ports: { first, last } }): ElementRef<RoutedSetId>[] => {
    const { port, range } = sets[container.family];
    if (last - first + 1 >= leastRangeLength) {
      return [{ set: range, key: [container, protocol, { first, last }] as const }];
    }
    return Array.from({ length: last - first + 1 }, (_, index) => first + index).flatMap((number) => {
      // Two ports of the host may lead to one of the container.
      const name = `${formatIp(container)} ${protocol} ${number}`;
      if (seen.has(name)) return [];
      seen.add(name);
      return [{ set: port, key: [container, protocol, number] as const }];
    });
  });
}
