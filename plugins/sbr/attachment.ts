import type { CniIp, CniResult } from "#cni/result.ts";
import type { SourceRule } from "#kernel/policy-routing.ts";
import { type Cidr, networkOf } from "#net/cidr.ts";
import { equalIp, type IpAddress } from "#net/ip.ts";
import type { SbrConfig } from "./config.ts";

/** One address of the interface, and by which table it is routed. */
export interface RoutedAddress {
  readonly address: Cidr;
  readonly table: number;
  /** For its default route; undefined without one, and where the table is somebody else's. */
  readonly gateway: IpAddress | undefined;
}

/** The addresses of the container's interface. One that says no interface is its own if `present` has it. */
export function ownAddresses(
  { ips, interfaces }: CniResult,
  ifName: string,
  present: readonly Cidr[],
): readonly CniIp[] {
  return ips.filter(({ interface: index, address }) => {
    if (index === undefined) return present.some((each) => equalIp(each.address, address.address));
    const of = interfaces[index];
    return of?.name === ifName && of.sandbox !== undefined && of.sandbox !== "";
  });
}

/** @param tables as many as there are addresses, or the configuration's own */
export function describeRouting(
  config: SbrConfig,
  ips: readonly CniIp[],
  tables: readonly number[],
): readonly RoutedAddress[] {
  return ips.map(({ address, gateway }, index) => ({
    address,
    table: config.table ?? tables[index] ?? 0,
    gateway: config.table === undefined ? (config.gateways[address.address.family] ?? gateway) : undefined,
  }));
}

export function rulesOf(routed: readonly RoutedAddress[]): readonly SourceRule[] {
  return routed.map(({ address, table }) => ({ from: address.address, table }));
}

/** A subnet of the interface as the main table keeps it where sources are to be hinted at. */
export interface SourceHint {
  readonly subnet: Cidr;
  readonly source: IpAddress;
}

export function hintsOf(config: SbrConfig, ips: readonly CniIp[]): readonly SourceHint[] {
  if (!config.addSourceHints || config.table !== undefined) return [];
  return ips.map(({ address }) => ({ subnet: networkOf(address), source: address.address }));
}
