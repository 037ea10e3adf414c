import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, ifName, int } from "#cni/schema-values.ts";
import type { IfName } from "#net/ifname.ts";
import { dnsField, ipamField, overridesIpam } from "#plugins/interface-arguments.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface VlanConfig {
  readonly master: IfName;
  readonly linkInContainer: boolean;
  /** 0 to 4094 */
  readonly vlanId: number;
  /** Undefined: the master's. */
  readonly mtu?: number;
  readonly duplicateAddressDetection: boolean;
  readonly ipamType: string;
  /** Set where the config's own `dns` replaces that of the IPAM plugin. */
  readonly dns?: CniDns;
}

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  master: emptyAsAbsent(ifName),
  linkInContainer: v.optional(v.boolean(), false),
  vlanId: v.optional(int(), 0),
  mtu: v.optional(int(), 0),
  enabledad: v.optional(v.boolean(), true),
  ipam: ipamField,
  dns: dnsField,
});

/** As it reads after "Cannot use". */
export const what = "vlan configuration";

/** @throws {CniError} 7 with the field and its value */
export function parseVlanConfig(network: NetworkConfig): VlanConfig {
  const raw = parseConfig(schema, network.json, { what });
  if (raw.master === undefined) {
    throw invalid('"master" field is required. It specifies the host interface name to create the VLAN for');
  }
  if (raw.vlanId < 0 || raw.vlanId > 4094) {
    throw invalid(
      `"vlanId" ${raw.vlanId}: invalid VLAN ID ${raw.vlanId} (must be between 0 and 4094 inclusive)`,
    );
  }
  if (raw.mtu !== 0 && (raw.mtu < 68 || raw.mtu > 65535)) {
    throw invalid(`"mtu" ${raw.mtu}: must be 0 or 68 to 65535`);
  }
  if (raw.ipam.type === "") throw invalid('"ipam" is missing: this plugin needs an IPAM plugin');
  return {
    master: raw.master,
    linkInContainer: raw.linkInContainer,
    vlanId: raw.vlanId,
    ...(raw.mtu === 0 ? {} : { mtu: raw.mtu }),
    duplicateAddressDetection: raw.enabledad,
    ipamType: raw.ipam.type,
    ...(raw.dns && overridesIpam(raw.dns) ? { dns: raw.dns } : {}),
  };
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use ${what}: ${problem}`);
}
