import type { Cidr } from "#net/cidr.ts";
import type { RouteSpec } from "./route.ts";

/** How the interface inside the container is set up. */
export interface InterfaceSpec {
  readonly addresses: readonly Cidr[];
  readonly routes: readonly RouteSpec[];
  /** False: IPv6 addresses are usable at once, and nobody asks whether another node has them. */
  readonly duplicateAddressDetection: boolean;
}
