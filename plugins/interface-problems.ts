import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import type { CniInterface, CniResult } from "#cni/result.ts";
import { readAddresses } from "#kernel/address.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { type Route, type RouteSpec, readRoutes } from "#kernel/route.ts";
import { isSourceTable } from "#kernel/source-routing.ts";
import { type Cidr, equalCidr, formatCidr, isDefaultRoute, networkOf } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { equalIp, formatIp } from "#net/ip.ts";
import { type MacAddress, parseMac } from "#net/mac.ts";
import type { Checking, InterfaceConfig } from "./interface-driver.ts";
import { describeIpConfiguration } from "./ip-configuration.ts";

/** The container's interface in the result that CHECK is given. */
export interface CheckedInterface {
  /** Undefined where that is of a version without interfaces (before 0.3.0). */
  readonly inside: CniInterface | undefined;
  /** Zero where the result has none. */
  readonly mac: MacAddress;
  /** The result without the addresses of other interfaces. */
  readonly own: CniResult;
}

/** @throws {CniError} 7 where the result is about other interfaces */
export function checkedInterface({ prevResult, ifName }: CheckRequest): CheckedInterface {
  const index = prevResult.interfaces.findIndex(({ name, sandbox }) => name === ifName && sandbox);
  const inside = prevResult.interfaces[index];
  if (!inside && prevResult.interfaces.length > 0) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot check ${JSON.stringify(ifName)}: prevResult has no such interface in the container`,
    );
  }
  const ips = prevResult.ips.filter((ip) => ip.interface === undefined || ip.interface === index);
  return { inside, mac: parsedMac(inside?.mac), own: { ...prevResult, ips } };
}

/** Zero for what is none. */
export function parsedMac(text: string | undefined): MacAddress {
  try {
    return parseMac(text ?? "");
  } catch {
    return parseMac("00:00:00:00:00:00");
  }
}

/** What an interface in a container has to be like. */
export interface ExpectedInterface {
  readonly name: IfName;
  /** As "it is not a veth" says it; absent where any will do. */
  readonly kind?: string;
  readonly up: boolean;
  /** As the result has it; a later plugin of the chain may have changed it. */
  readonly mac?: string | undefined;
  readonly mtu?: number | undefined;
  readonly addresses: readonly Cidr[];
  readonly routes: readonly RouteSpec[];
}

/** What differs from that, one sentence each; with the link for whatever else is to be looked at. */
export function interfaceProblems(
  container: NetworkNamespace,
  expected: ExpectedInterface,
): { readonly link: Link | undefined; readonly problems: readonly string[] } {
  const quoted = JSON.stringify(expected.name);
  const link = readLink(container, expected.name);
  if (!link) return { link, problems: [`container interface ${quoted} is gone`] };
  const problems: string[] = [];
  if (expected.kind !== undefined && link.kind !== expected.kind) {
    problems.push(`container interface ${quoted} is not a ${expected.kind}`);
  }
  if (expected.up && !link.up) problems.push(`container interface ${quoted} is down`);
  if (expected.mac && link.mac !== expected.mac.toLowerCase()) {
    problems.push(`container interface ${quoted} has MAC address ${link.mac} instead of ${expected.mac}`);
  }
  if (expected.mtu !== undefined && link.mtu !== expected.mtu) {
    problems.push(`container interface ${quoted} has MTU ${link.mtu} instead of ${expected.mtu}`);
  }
  const addresses = expected.addresses.length > 0 ? readAddresses(container, link.ifindex) : [];
  for (const wanted of expected.addresses) {
    const found = addresses.find(({ address }) => equalCidr(address, wanted));
    if (!found) problems.push(`address ${formatCidr(wanted)} is gone`);
    else if (found.dadFailed) problems.push(`address ${formatCidr(wanted)} is a duplicate`);
  }
  return { link, problems: [...problems, ...routeProblems(container, link.ifindex, expected.routes)] };
}

/**
 * The same for an attachment whose interface has what the IPAM plugin gave and no more.
 * @param kind of the link
 */
export function attachmentProblems(
  { config, ifName, container, checked }: Checking<InterfaceConfig, unknown>,
  kind: string,
): ReturnType<typeof interfaceProblems> {
  const { ipamType } = config;
  const hasAddresses = ipamType !== undefined || checked.own.ips.length > 0;
  const configuration = hasAddresses
    ? describeIpConfiguration(checked.own, { interfaceIndex: 0, ipamType })
    : undefined;
  return interfaceProblems(container, {
    name: ifName,
    kind,
    up: true,
    mac: checked.inside?.mac,
    addresses: configuration?.addresses ?? [],
    routes: configuration?.kernelRoutes ?? [],
  });
}

/** Which of the routes through a link are missing. */
export function routeProblems(
  namespace: NetworkNamespace,
  ifindex: number,
  wanted: readonly RouteSpec[],
): readonly string[] {
  if (wanted.length === 0) return [];
  const routes = readRoutes(namespace, ifindex);
  return wanted
    .filter((each) => !routes.some((route) => matches(route, each)))
    .map(({ dst, gw }) => `route ${formatCidr(dst)}${gw ? ` via ${formatIp(gw)}` : ""} is gone`);
}

function matches(route: Route, wanted: RouteSpec): boolean {
  if (route.family !== wanted.dst.address.family) return false;
  if (isDefaultRoute(wanted.dst)) {
    if (route.destination && !isDefaultRoute(route.destination)) return false;
  } else if (!route.destination || !equalCidr(route.destination, networkOf(wanted.dst))) {
    return false;
  }
  if (wanted.gw) {
    const gateways = [route.gateway, ...(route.nextHops ?? []).map(({ gateway }) => gateway)];
    if (!gateways.some((gateway) => gateway && wanted.gw && equalIp(gateway, wanted.gw))) return false;
  }
  return isInTable(route, wanted) && (wanted.priority === undefined || route.metric === wanted.priority);
}

/** RT_TABLE_MAIN and RT_TABLE_LOCAL: include/uapi/linux/rtnetlink.h */
const [mainTable, localTable] = [254, 255];

/**
 * One of the main table may have been moved by a later plugin of the chain: sbr to a table of its own, vrf to its VRF's.
 * What a sandbox of several networks has in the tables of its addresses is a copy.
 */
function isInTable({ table }: Route, wanted: RouteSpec): boolean {
  if (!wanted.table || wanted.table === mainTable) return table !== localTable && !isSourceTable(table);
  return table === wanted.table;
}
