import type { Cidr } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";

/**
 * The ADD result in one shape for all versions (that of 1.1.0, SPEC.md "ADD Success"), with addresses as
 * values. `cni/result-versions.ts` turns the JSON of any version into this and back.
 */
export interface CniResult {
  readonly interfaces: readonly CniInterface[];
  readonly ips: readonly CniIp[];
  readonly routes: readonly CniRoute[];
  readonly dns: CniDns;
}

export interface CniInterface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Path of the namespace, as the runtime gave it; absent for an interface of the host. */
  readonly sandbox?: string;
  readonly socketPath?: string;
  readonly pciId?: string;
}

export interface CniIp {
  /** Index into `interfaces`; absent means unknown, which is not the same as 0. */
  readonly interface?: number;
  /** The address with the prefix length of its subnet: host bits are set. */
  readonly address: Cidr;
  readonly gateway?: IpAddress;
}

export interface CniRoute {
  readonly dst: Cidr;
  readonly gw?: IpAddress;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

/** Absent fields were absent in the JSON, which decides whether they override those of an IPAM plugin. */
export interface CniDns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

export const emptyResult: CniResult = { interfaces: [], ips: [], routes: [], dns: {} };
