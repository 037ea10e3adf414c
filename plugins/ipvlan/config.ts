import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, int, mac, oneOf } from "#cni/schema-values.ts";
import type { IpvlanFlagName, IpvlanModeName } from "#kernel/child-link.ts";
import { dnsField, ipamField, overridesIpam } from "#plugins/interface-arguments.ts";
import { type ParentConfig, parentFields, parseParent } from "#plugins/parent-link.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface IpvlanConfig {
  /** Where no master is named and the plugin is chained, it is the interface of the previous result. */
  readonly parent: ParentConfig;
  readonly mode: IpvlanModeName;
  readonly flag: IpvlanFlagName;
  /** Undefined: the master's. */
  readonly mtu?: number;
  readonly duplicateAddressDetection: boolean;
  /** Absent: the addresses are those of the previous result. */
  readonly ipamType?: string;
  /** Set where the config's own `dns` replaces that of the IPAM plugin. */
  readonly dns?: CniDns;
}

const modes = ["l2", "l3", "l3s"] as const;

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  ...parentFields,
  mode: v.optional(v.string(), ""),
  flag: emptyAsAbsent(oneOf(["bridge", "private", "vepa"])),
  mtu: v.optional(int(), 0),
  enabledad: v.optional(v.boolean(), true),
  ipam: ipamField,
  dns: dnsField,
});

/** As it reads after "Cannot use". */
export const what = "ipvlan configuration";
const runtimeSchema = goObject({ mac: emptyAsAbsent(mac) });

/** @throws {CniError} 7 with the field and its value */
export function parseIpvlanConfig(network: NetworkConfig): IpvlanConfig {
  const raw = parseConfig(schema, network.json, { what });
  const mode = raw.mode === "" ? "l2" : modes.find((each) => each === raw.mode);
  if (mode === undefined) {
    throw invalid(
      `"mode" ${JSON.stringify(raw.mode)}: unknown ipvlan mode: ${JSON.stringify(raw.mode)} (must be ${modes.join(", ")})`,
    );
  }
  if (raw.mtu !== 0 && (raw.mtu < 68 || raw.mtu > 65535)) {
    throw invalid(`"mtu" ${raw.mtu}: must be 0 or 68 to 65535`);
  }
  const wanted = parseConfig(runtimeSchema, network.runtimeConfig, { what: "runtimeConfig" }).mac;
  if (wanted !== undefined) {
    throw invalid(
      `"runtimeConfig.mac" ${JSON.stringify(wanted)}: all ipvlans have the MAC address of their master`,
    );
  }
  return {
    parent: parseParent(raw, what),
    mode,
    flag: raw.flag ?? "bridge",
    ...(raw.mtu === 0 ? {} : { mtu: raw.mtu }),
    duplicateAddressDetection: raw.enabledad,
    ...(raw.ipam.type === "" ? {} : { ipamType: raw.ipam.type }),
    ...(raw.dns && overridesIpam(raw.dns) ? { dns: raw.dns } : {}),
  };
}

/** The error for a configuration. */
export function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use ${what}: ${problem}`);
}
