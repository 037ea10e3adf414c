import { formatElement, type Operation } from "./element.ts";
import { claimOf, collide, type PortClaim, type PortOperation, portMaps } from "./ports.ts";

interface Held {
  readonly claim: PortClaim;
  readonly owner: string;
}

/**
 * Of elements that can't stand beside each other, the first: one key of a map, and ports of several owners that collide
 * without being the same key (one as part of a range, or on all addresses of the host). A runtime publishes a container's
 * ports in each of its networks; the first has them, and the others would have them if it went.
 * @param present elements that are there already, which go before all others
 */
export function withoutRivals(
  operations: readonly Operation[],
  present: readonly Operation[],
): readonly Operation[] {
  const taken = new Map<string, string>();
  const held = new PortTable();
  const accept = (operation: Operation): boolean => {
    const { owner } = operation;
    if (owner === undefined) return true;
    const key = formatElement({ set: operation.set, key: operation.key });
    const holder = taken.get(key);
    if (holder !== undefined) return holder === owner;
    if (isPort(operation)) {
      const claim = claimOf(operation);
      if (held.collides(claim, owner)) return false;
      held.add({ claim, owner });
    }
    taken.set(key, owner);
    return true;
  };
  for (const each of present) accept(each);
  return operations.filter(accept);
}

const portSetIds: ReadonlySet<string> = new Set([
  ...Object.values(portMaps[4]),
  ...Object.values(portMaps[6]),
]);

function isPort(operation: Operation): operation is PortOperation {
  return portSetIds.has(operation.set);
}

/** Ports in use: single ones by number, as there may be thousands, ranges in a list. */
class PortTable {
  readonly #single = new Map<number, Held[]>();
  readonly #ranges: Held[] = [];

  add(held: Held): void {
    const { first, last } = held.claim.ports;
    if (first !== last) this.#ranges.push(held);
    else this.#single.set(first, [...(this.#single.get(first) ?? []), held]);
  }

  collides(claim: PortClaim, owner: string): boolean {
    const isRival = (held: Held) => held.owner !== owner && collide(held.claim, claim);
    if (this.#ranges.some(isRival)) return true;
    const { first, last } = claim.ports;
    for (let port = first; port <= last; port++) {
      if (this.#single.get(port)?.some(isRival)) return true;
    }
    return false;
  }
}
