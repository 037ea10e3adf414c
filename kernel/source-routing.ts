import { type Cidr, formatCidr, hostCidr, isDefaultRoute, networkOf } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { formatIp } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import type { Request } from "#netlink/message.ts";
import { decodeRoute, deleteRoute, getRoutes, type Route, RouteTable } from "#netlink/route/route.ts";
import { decodeRule, deleteRule, getRules, newRule, type Rule } from "#netlink/route/rule.ts";
import type { Link } from "./link.ts";
import { readEachLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { type RouteSpec, routeRequest } from "./route.ts";

/** One of the interfaces by which a namespace is attached to networks. */
export interface RoutedLink {
  readonly ifName: IfName;
  readonly addresses: readonly Cidr[];
  /** What it was given routes to, default routes among them. */
  readonly routes: readonly RouteSpec[];
  /** Families whose default route is its own. */
  readonly gatewayOf: readonly (4 | 6)[];
}

/** Ours among the rules: a number that no routing daemon has in iproute2's rt_protos. */
export const ruleProtocol = 110;
/** Before main (32766), after local (0). */
const rulePriority = 1000;
/** Behind it an ifindex makes a table of its own for each interface, apart from those that people number. */
const firstTable = 52_000;
const lastTable = firstTable + 0xffff;

const families = [4, 6] as const;

interface PresentLink extends RoutedLink {
  readonly ifindex: number;
}

/**
 * Gives the main table the default routes that are wanted, and takes those of the other interfaces out of it. With
 * `bySource`, what has the address of an interface as its source leaves by that interface and its own gateway,
 * wherever it goes: an answer goes the way that the question came. Like, for each address,
 * `ip rule add from ADDRESS lookup TABLE` with the interface's routes in that table.
 *
 * New routes are put in before old ones go, so that at no time there is none. Idempotent; interfaces that are not
 * there are passed over. Costs a dump of the namespace's routes and rules.
 * @throws {NetlinkError}
 */
export function applySourceRouting(
  namespace: NetworkNamespace,
  links: readonly RoutedLink[],
  options: { readonly bySource: boolean },
): void {
  const found = readEachLink(
    namespace,
    links.map(({ ifName }) => ifName),
  );
  const present = links.flatMap((link, index): readonly PresentLink[] => {
    const there: Link | undefined = found[index];
    return there === undefined ? [] : [{ ...link, ifindex: there.ifindex }];
  });
  for (const family of families) {
    const routes = namespace.dump(getRoutes({ family })).map(decodeRoute);
    const rules = namespace.dump(getRules(family)).map(decodeRule);
    const tables = options.bySource ? present.filter((link) => hasDefault(link, family)) : [];
    const change = [
      ...fillTables(tables, family, routes),
      ...addRules(tables, family, rules),
      ...setDefaults(present, family, routes),
      ...removeRules(tables, family, rules),
      ...emptyTables(tables, routes),
    ];
    send(namespace, change);
  }
}

interface Change {
  readonly request: Request;
  /** Refusals that mean that it is so already. */
  readonly tolerated: readonly number[];
}

const addition = (request: Request): Change => ({ request, tolerated: [Errno.EEXIST] });
const removal = (request: Request): Change => ({ request, tolerated: [Errno.ESRCH, Errno.ENOENT] });

function send(namespace: NetworkNamespace, changes: readonly Change[]): void {
  // One by one and in order: a route to a gateway needs the one to its subnet.
  for (const { request, tolerated } of changes) {
    const [outcome] = namespace.attempt([request]);
    if (outcome !== undefined && outcome.errno !== 0 && !tolerated.includes(outcome.errno))
      throw outcome.error;
  }
}

function hasDefault({ routes }: RoutedLink, family: 4 | 6): boolean {
  return routes.some(({ dst }) => dst.address.family === family && isDefaultRoute(dst));
}

/** Whether it is one of those that this file fills, as copies of what the main table has or had. */
export function isSourceTable(table: number): boolean {
  return table > firstTable && table <= lastTable;
}

const tableOf = ({ ifindex }: PresentLink) => firstTable + ifindex;

/** The interface's subnets, then its routes: those without a gateway first, since gateways may be behind them. */
function tableRoutes({ addresses, routes }: RoutedLink, family: 4 | 6): readonly RouteSpec[] {
  const subnets = addresses.map((address) => ({ dst: networkOf(address) }));
  const given = routes
    .filter(({ table }) => table === undefined || table === RouteTable.main || table === 0)
    .toSorted((a, b) => Number(a.gw !== undefined) - Number(b.gw !== undefined));
  return [...subnets, ...given].filter(({ dst }) => dst.address.family === family);
}

function fillTables(
  links: readonly PresentLink[],
  family: 4 | 6,
  routes: readonly Route[],
): readonly Change[] {
  return links.flatMap((link) => {
    const table = tableOf(link);
    const there = new Set(routes.filter((route) => route.table === table).map(keyOfRoute));
    return tableRoutes(link, family)
      .filter((spec) => !there.has(keyOfSpec(spec, link.ifindex)))
      .map((spec) => addition(routeRequest(link.ifindex, { ...spec, table })));
  });
}

function keyOfRoute({ destination, gateway, ifindex }: Route): string {
  return [destination ? formatCidr(destination) : "default", gateway ? formatIp(gateway) : "", ifindex].join(
    " ",
  );
}

function keyOfSpec({ dst, gw }: RouteSpec, ifindex: number): string {
  const destination = isDefaultRoute(dst) ? "default" : formatCidr(networkOf(dst));
  return [destination, gw ? formatIp(gw) : "", ifindex].join(" ");
}

/** What is in our tables and of no interface that needs one: those of interfaces that are gone are empty by then. */
function emptyTables(links: readonly PresentLink[], routes: readonly Route[]): readonly Change[] {
  const wanted = new Map(links.map((link) => [tableOf(link), link]));
  return routes
    .filter(({ table }) => isSourceTable(table))
    .filter((route) => {
      const link = wanted.get(route.table);
      if (link === undefined) return true;
      const keys = tableRoutes(link, route.family).map((spec) => keyOfSpec(spec, link.ifindex));
      return !keys.includes(keyOfRoute(route));
    })
    .map(({ family, destination, gateway, ifindex, table }) =>
      removal(deleteRoute({ family, destination, gateway, ifindex, table })),
    );
}

function wantedRules(links: readonly PresentLink[], family: 4 | 6): readonly Rule[] {
  return links.flatMap((link) =>
    link.addresses
      .filter(({ address }) => address.family === family)
      .map(({ address }) => ({
        family,
        from: hostCidr(address),
        table: tableOf(link),
        priority: rulePriority,
        protocol: ruleProtocol,
      })),
  );
}

const keyOfRule = ({ from, table }: Rule) => `${from ? formatCidr(from) : "all"} ${table ?? 0}`;
const isOurs = ({ protocol, priority }: Rule) => protocol === ruleProtocol && priority === rulePriority;

function addRules(links: readonly PresentLink[], family: 4 | 6, rules: readonly Rule[]): readonly Change[] {
  const there = new Set(rules.filter(isOurs).map(keyOfRule));
  return wantedRules(links, family)
    .filter((rule) => !there.has(keyOfRule(rule)))
    .map((rule) => addition(newRule(rule)));
}

function removeRules(
  links: readonly PresentLink[],
  family: 4 | 6,
  rules: readonly Rule[],
): readonly Change[] {
  const wanted = new Set(wantedRules(links, family).map(keyOfRule));
  return rules
    .filter((rule) => isOurs(rule) && !wanted.has(keyOfRule(rule)))
    .map(({ from, table, priority, protocol }) =>
      removal(deleteRule({ family, from, table, priority, protocol })),
    );
}

/** In the main table: the elected interface's default routes, and none of the others. */
function setDefaults(
  links: readonly PresentLink[],
  family: 4 | 6,
  routes: readonly Route[],
): readonly Change[] {
  const present = routes.flatMap((route) =>
    route.table === RouteTable.main && route.destination === undefined ? hopsOf(route) : [],
  );
  const wanted = links
    .filter(({ gatewayOf }) => gatewayOf.includes(family))
    .flatMap((link) =>
      link.routes
        .filter(({ dst, table }) => dst.address.family === family && isDefaultRoute(dst) && !table)
        .map((spec) => ({ link, spec })),
    );
  const missing = wanted.filter(
    ({ link, spec }) => !present.some((route) => keyOfRoute(route) === keyOfSpec(spec, link.ifindex)),
  );
  const losers = links.filter(({ gatewayOf }) => !gatewayOf.includes(family));
  const surplus = present.filter(({ ifindex }) => losers.some((link) => link.ifindex === ifindex));
  return [
    ...missing.map(({ link, spec }) => addition(routeRequest(link.ifindex, spec))),
    ...surplus.map(({ gateway, ifindex, metric }) =>
      removal(deleteRoute({ family, gateway, ifindex, metric, table: RouteTable.main })),
    ),
  ];
}

/** IPv6 shows several gateways to one destination as one route. */
function hopsOf(route: Route): readonly Route[] {
  if (route.nextHops === undefined) return [route];
  return route.nextHops.map(({ ifindex, gateway }) => ({ ...route, nextHops: undefined, ifindex, gateway }));
}
