import type { NetworkNamespace } from "#kernel/namespace.ts";
import {
  addRoutes,
  addSourceRules,
  flushTable,
  removeRoutes,
  removeSourceRules,
} from "#kernel/policy-routing.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { RoutedAddress } from "./attachment.ts";
import type { Made, MovedRoute } from "./made.ts";

/** Puts everything in place: first the tables, then what leads to them, and only then is the main table emptied. */
export function realise(namespace: NetworkNamespace, made: Made, routed: readonly RoutedAddress[]): void {
  const { ifindex } = made;
  if (made.tables.length > 0) {
    for (const { address, table, gateway } of routed) {
      const { family } = address.address;
      const ofFamily = made.moved.filter((route) => route.family === family);
      const kept = gateway ? ofFamily.filter(({ destination }) => destination !== undefined) : ofFamily;
      addRoutes(namespace, [
        ...kept.map((route) => ({ ...through(route, ifindex), table })),
        ...(gateway ? [{ family, gateway, ifindex, table }] : []),
      ]);
    }
    crashPoint("source-tables-filled");
  }
  addSourceRules(namespace, made.rules);
  crashPoint("source-rules-added");
  removeRoutes(namespace, made.moved.map((route) => through(route, ifindex)).reverse());
  addRoutes(namespace, hintRoutes(made));
  crashPoint("main-table-emptied");
}

/** Takes everything back: what is gone already is fine. Routes go back to the main table if the link is there. */
export function revert(
  namespace: NetworkNamespace,
  made: Made,
  { isLinkThere }: { readonly isLinkThere: boolean },
): void {
  const { ifindex } = made;
  if (isLinkThere) {
    removeRoutes(namespace, hintRoutes(made));
    addRoutes(
      namespace,
      made.moved.map((route) => through(route, ifindex)),
    );
    crashPoint("main-table-restored");
  }
  removeSourceRules(namespace, made.rules);
  crashPoint("source-rules-removed");
  if (isLinkThere) for (const table of made.tables) flushTable(namespace, { table, ifindex });
}

function through({ nextHops, ...route }: MovedRoute, ifindex: number) {
  return nextHops
    ? { ...route, nextHops: nextHops.map((hop) => ({ ...hop, ifindex })) }
    : { ...route, ifindex };
}

function hintRoutes({ hints, ifindex }: Made) {
  return hints.map(({ subnet, source }) => ({
    family: subnet.address.family,
    destination: subnet,
    source,
    ifindex,
  }));
}
