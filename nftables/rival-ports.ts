import type { Operation } from "./element.ts";
import { keyText } from "./element-codec.ts";
import { claimOf, collide, type PortClaim, type PortOperation, portMaps } from "./ports.ts";

/** An element with its key as one text, by which it can be told from all others of its set. */
export interface Keyed {
  readonly operation: Operation;
  readonly key: string;
}

export function keyed(operation: Operation): Keyed {
  return { operation, key: keyText(operation) };
}

/**
 * Of elements that can't stand beside each other, the first: one key of a map, and ports of several owners that collide
 * without being the same key (one as part of a range, or on all addresses of the host). A runtime publishes a container's
 * ports in each of its networks; the first has them, and the others would have them if it went.
 * @param present elements that are there already, which go before all others
 */
export function withoutRivals(wanted: readonly Keyed[], present: readonly Keyed[]): readonly Keyed[] {
  // Where nothing is missing there is nothing to compare, of however many.
  if (wanted.length === 0) return wanted;
  const holders = new Map<string, Map<string, string>>();
  const held = new PortTable();
  const accept = ({ operation, key }: Keyed): boolean => {
    const { owner, set } = operation;
    if (owner === undefined) return true;
    let taken = holders.get(set);
    if (!taken) holders.set(set, (taken = new Map()));
    const holder = taken.get(key);
    if (holder !== undefined) return holder === owner;
    if (isPort(operation)) {
      if (held.collides(operation)) return false;
      held.add(operation);
    }
    taken.set(key, owner);
    return true;
  };
  for (const each of present) accept(each);
  return wanted.filter(accept);
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
  readonly #single = new Map<number, PortOperation | PortOperation[]>();
  readonly #ranges: PortOperation[] = [];

  add(operation: PortOperation): void {
    const { first, last } = portsOf(operation);
    const others = this.#single.get(first);
    if (first !== last) this.#ranges.push(operation);
    // A list for each would be most of what all this takes.
    else if (others === undefined) this.#single.set(first, operation);
    else if (Array.isArray(others)) others.push(operation);
    else this.#single.set(first, [others, operation]);
  }

  collides(operation: PortOperation): boolean {
    const { first, last } = portsOf(operation);
    let claim: PortClaim | undefined;
    const isRival = (held: PortOperation) => {
      return held.owner !== operation.owner && collide(claimOf(held), (claim ??= claimOf(operation)));
    };
    if (this.#ranges.some(isRival)) return true;
    for (let port = first; port <= last; port++) {
      const others = this.#single.get(port);
      if (others === undefined) continue;
      if (Array.isArray(others) ? others.some(isRival) : isRival(others)) return true;
    }
    return false;
  }
}

function portsOf({ key }: PortOperation): PortClaim["ports"] {
  const last = key.at(-1);
  return typeof last === "object" && "first" in last ? last : { first: Number(last), last: Number(last) };
}
