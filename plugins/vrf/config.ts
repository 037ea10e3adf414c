import * as v from "valibot";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { ifName, int } from "#cni/schema-values.ts";
import type { IfName } from "#net/ifname.ts";

/** The network configuration. */
export interface VrfConfig {
  readonly name: IfName;
  /** Undefined: that of the VRF that there is, else a free one. */
  readonly table: number | undefined;
}

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  vrfname: ifName,
  table: v.optional(int({ min: 0, max: 0xffffffff }), 0),
});

/** @throws {CniError} 7 with the field and its value */
export function parseVrfConfig(network: NetworkConfig): VrfConfig {
  const { vrfname, table } = parseConfig(schema, network.json, { what: "vrf configuration" });
  return { name: vrfname, table: table || undefined };
}
