import type { Cidr } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";

/** One route through one interface. */
export interface RouteSpec {
  readonly dst: Cidr;
  readonly gw?: IpAddress;
  readonly mtu?: number;
  readonly advmss?: number;
  /** Metric; smaller wins. */
  readonly priority?: number;
  /** main (254) if absent. */
  readonly table?: number;
  /** RT_SCOPE_*; universe (0) with a gateway and link (253) without one, if absent. */
  readonly scope?: number;
}
