import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { int, ip } from "#cni/schema-values.ts";
import type { IpAddress } from "#net/ip.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface SbrConfig {
  /** A table that somebody else fills; undefined: tables of our own. */
  readonly table: number | undefined;
  /** In place of the gateways of the previous result. */
  readonly gateways: { readonly 4?: IpAddress; readonly 6?: IpAddress };
  /** The interface's subnets stay in the main table, each with the interface's address as source. */
  readonly addSourceHints: boolean;
}

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  table: v.optional(int({ min: 1, max: 0xffffffff })),
  gateways: v.optional(v.array(ip), []),
  addSourceHints: v.optional(v.boolean(), false),
});

/** @throws {CniError} 7 with the field and its value */
export function parseSbrConfig(network: NetworkConfig): SbrConfig {
  const raw = parseConfig(schema, network.json, { what: "sbr configuration" });
  const { table, addSourceHints, gateways } = raw;
  const ofFamily = (family: 4 | 6) => gateways.filter((gateway) => gateway.family === family);
  const [v4, v6] = [ofFamily(4), ofFamily(6)];
  if (v4.length > 1 || v6.length > 1) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use sbr configuration: "gateways" ${JSON.stringify(network.json["gateways"])}: gateways list cannot contain more than 2 entries (one IPv4, one IPv6)`,
    );
  }
  return {
    table,
    addSourceHints,
    gateways: { ...(v4[0] ? { 4: v4[0] } : {}), ...(v6[0] ? { 6: v6[0] } : {}) },
  };
}
