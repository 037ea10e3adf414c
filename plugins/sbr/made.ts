import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { cidr, int, ip } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";
import type { Route } from "#kernel/route.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";

/** A route of the main table, as much of it as is put back. */
const movedRoute = goObject({
  family: v.picklist([4, 6]),
  destination: v.exactOptional(cidr),
  gateway: v.exactOptional(ip),
  source: v.exactOptional(ip),
  metric: v.exactOptional(int()),
  scope: int(),
  protocol: int(),
  mtu: v.exactOptional(int()),
  advertisedMss: v.exactOptional(int()),
  onLink: v.boolean(),
  nextHops: v.exactOptional(v.array(goObject({ gateway: v.exactOptional(ip), weight: int() }))),
});

export type MovedRoute = v.InferOutput<typeof movedRoute>;

const schema = goObject({
  ifindex: int(),
  rules: v.array(goObject({ from: ip, table: int() })),
  /** Tables that were found free for it; empty where the configuration names one. */
  tables: v.array(int()),
  moved: v.array(movedRoute),
  hints: v.array(goObject({ subnet: cidr, source: ip })),
});

/**
 * What the journal keeps of an attachment: enough to take everything away, and to put the routes back, when
 * configuration and result are gone. Written before anything is made, so all of it may be missing.
 */
export type Made = v.InferOutput<typeof schema>;

export function describeMoved(route: Route): MovedRoute {
  const { family, destination, gateway, source, metric, scope, protocol, mtu, advertisedMss, onLink } = route;
  return {
    family,
    ...(destination && { destination }),
    ...(gateway && { gateway }),
    ...(source && { source }),
    ...(metric !== undefined && { metric }),
    scope,
    protocol,
    ...(mtu !== undefined && { mtu }),
    ...(advertisedMss !== undefined && { advertisedMss }),
    onLink,
    ...(route.nextHops && {
      nextHops: route.nextHops.map((hop) => ({
        ...(hop.gateway && { gateway: hop.gateway }),
        weight: hop.weight ?? 1,
      })),
    }),
  };
}

export function encodeMade({ ifindex, rules, tables, moved, hints }: Made): JsonObject {
  return {
    ifindex,
    rules: rules.map(({ from, table }) => ({ from: formatIp(from), table })),
    tables: [...tables],
    moved: moved.map(({ destination, gateway, source, nextHops, ...rest }) => ({
      ...rest,
      ...(destination && { destination: formatCidr(destination) }),
      ...(gateway && { gateway: formatIp(gateway) }),
      ...(source && { source: formatIp(source) }),
      ...(nextHops && {
        nextHops: nextHops.map(({ gateway, weight }) => ({
          ...(gateway && { gateway: formatIp(gateway) }),
          weight,
        })),
      }),
    })),
    hints: hints.map(({ subnet, source }) => ({ subnet: formatCidr(subnet), source: formatIp(source) })),
  };
}

/** What a record says was made; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const { success, output } = v.safeParse(schema, record.made);
  return success ? output : undefined;
}
