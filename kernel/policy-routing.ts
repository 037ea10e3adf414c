import { hostCidr } from "#net/cidr.ts";
import { equalIp, type IpAddress, isLinkLocal } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import {
  decodeRoute,
  deleteRoute,
  getRoutes,
  type NewRoute,
  newRoute,
  type Route,
  RouteTable,
  RouteType,
} from "#netlink/route/route.ts";
import { decodeRule, deleteRule, getRules, newRule, type Rule, RuleAction } from "#netlink/route/rule.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** What is sent from an address is routed by a table of its own. */
export interface SourceRule {
  readonly from: IpAddress;
  readonly table: number;
}

const families = [4, 6] as const;

/** Numbers of tables that the kernel or iproute2 keep for themselves. */
const reserved: readonly number[] = Object.values(RouteTable);

/**
 * The first routing tables from `first` on in which there is no route, and to which no rule leads, of either family. Reads
 * the rules, and of the tables only what it asks for; a container has few of both.
 * @throws {RangeError} where there are none
 */
export function findFreeTables(namespace: NetworkNamespace, first: number, count: number): readonly number[] {
  const taken = new Set(reserved);
  for (const family of families) for (const { table } of readRules(namespace, family)) taken.add(table ?? 0);
  const found: number[] = [];
  for (let table = first; found.length < count; table++) {
    if (table > maxTable) throw new RangeError("Cannot find a free routing table");
    if (!taken.has(table) && isEmptyTable(namespace, table)) found.push(table);
  }
  return found;
}

const maxTable = 0xffff;

function isEmptyTable(namespace: NetworkNamespace, table: number): boolean {
  return families.every((family) => readTable(namespace, table, family).length === 0);
}

/** Of a table that nobody has used so far, a kernel with strict checks says that there is none. */
function readTable(namespace: NetworkNamespace, table: number, family: 4 | 6): readonly Route[] {
  return dumpOrNothing(namespace, getRoutes({ table, family })).filter((route) => route.table === table);
}

function dumpOrNothing(namespace: NetworkNamespace, request: ReturnType<typeof getRoutes>): readonly Route[] {
  try {
    return namespace.dump(request).map(decodeRoute);
  } catch (error) {
    if (isNetlinkError(error, Errno.ENOENT, Errno.EAFNOSUPPORT, Errno.EOPNOTSUPP)) return [];
    throw error;
  }
}

/** Like `ip rule show`. None where the kernel was built without policy routing for that family. */
export function readRules(namespace: NetworkNamespace, family: 4 | 6): readonly Rule[] {
  try {
    return namespace.dump(getRules(family)).map(decodeRule);
  } catch (error) {
    if (isNetlinkError(error, Errno.EAFNOSUPPORT, Errno.EOPNOTSUPP)) return [];
    throw error;
  }
}

function sourceRule({ from, table }: SourceRule): Rule {
  return { family: from.family, from: hostCidr(from), table };
}

/** Like `ip rule add from ADDRESS table NUMBER`, each before those that are there. One that is there is fine. */
export function addSourceRules(namespace: NetworkNamespace, rules: readonly SourceRule[]): void {
  expect(
    namespace,
    rules.map((rule) => newRule(sourceRule(rule))),
    [Errno.EEXIST],
  );
}

/** Those that are gone are fine. */
export function removeSourceRules(namespace: NetworkNamespace, rules: readonly SourceRule[]): void {
  const requests = rules.map((rule) => deleteRule({ ...sourceRule(rule), action: RuleAction.lookup }));
  expect(namespace, requests, [Errno.ENOENT, Errno.EAFNOSUPPORT]);
}

/** The rules for what is sent from one address. */
export function rulesFrom(namespace: NetworkNamespace, from: IpAddress): readonly SourceRule[] {
  return readRules(namespace, from.family).flatMap((rule) => {
    const isOurs = rule.from && equalIp(rule.from.address, from) && rule.from.prefixLength === bitsOf(from);
    return isOurs && rule.action === RuleAction.lookup && rule.table !== undefined
      ? [{ from, table: rule.table }]
      : [];
  });
}

function bitsOf({ family }: IpAddress): number {
  return family === 4 ? 32 : 128;
}

/**
 * The routes of one table by which a link is used, the main one if absent, but for the link-local one of IPv6, which belongs to every link.
 * Of a route that has several ways at once only one through this link alone.
 */
export function readRoutesOf(
  namespace: NetworkNamespace,
  ifindex: number,
  table: number = RouteTable.main,
): readonly Route[] {
  return families
    .flatMap((family) => dumpOrNothing(namespace, getRoutes({ family, ifindex, table })))
    .filter((route) => {
      const isOwn = route.nextHops ? route.nextHops.every((hop) => hop.ifindex === ifindex) : true;
      const isLocal = route.destination !== undefined && isLinkLocal(route.destination.address);
      return (
        isOwn && !(isLocal && route.family === 6) && route.table === table && route.type === RouteType.unicast
      );
    });
}

/** Whether a table has a route through the link. */
export function hasRoutes(
  namespace: NetworkNamespace,
  where: { readonly table: number; readonly family: 4 | 6; readonly ifindex: number },
): boolean {
  return dumpOrNothing(namespace, getRoutes(where)).some((route) => route.table === where.table);
}

/** Adds routes, those without gateway first, since the others need them. One that is there is fine. */
export function addRoutes(namespace: NetworkNamespace, routes: readonly NewRoute[]): void {
  const sorted = [...routes.filter(isDirect), ...routes.filter((route) => !isDirect(route))];
  const requests = sorted.map((route) => newRoute({ ...route, presence: "append" }));
  expect(namespace, requests, [Errno.EEXIST]);
}

function isDirect({ gateway, nextHops }: NewRoute): boolean {
  return gateway === undefined && nextHops === undefined;
}

/** Removes routes of one table. Those that are gone are fine. */
export function removeRoutes(namespace: NetworkNamespace, routes: readonly NewRoute[]): void {
  const requests = routes.map(({ family, destination, gateway, ifindex, metric, table, source }) =>
    deleteRoute({ family, destination, gateway, ifindex, metric, table, source }),
  );
  expect(namespace, requests, [Errno.ESRCH, Errno.ENOENT, Errno.ENODEV]);
}

/** Like `ip route flush table NUMBER dev NAME`. */
export function flushTable(
  namespace: NetworkNamespace,
  { table, ifindex }: { readonly table: number; readonly ifindex: number },
): void {
  const routes = families.flatMap((family) =>
    dumpOrNothing(namespace, getRoutes({ family, table, ifindex })),
  );
  removeRoutes(
    namespace,
    routes.filter((route) => route.table === table),
  );
}

function expect(
  namespace: NetworkNamespace,
  requests: Parameters<NetworkNamespace["attempt"]>[0],
  fine: readonly number[],
): void {
  const refused = namespace.attempt(requests).find(({ errno }) => errno !== 0 && !fine.includes(errno));
  if (refused?.error) throw refused.error;
}
