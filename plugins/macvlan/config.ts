import * as v from "valibot";
import type { CniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, int, mac } from "#cni/schema-values.ts";
import type { MacvlanModeName } from "#kernel/child-link.ts";
import type { MacAddress } from "#net/mac.ts";
import { dnsField, ipamField, overridesIpam, requestedMac } from "#plugins/interface-arguments.ts";
import { type ParentConfig, parentFields, parseParent } from "#plugins/parent-link.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface MacvlanConfig {
  readonly parent: ParentConfig;
  readonly mode: MacvlanModeName;
  /** Undefined: the master's. */
  readonly mtu?: number;
  /** From whichever channel won. */
  readonly mac?: MacAddress;
  /** Undefined: the kernel's default. */
  readonly broadcastQueueLength?: number;
  /** The host gets a way to its containers. */
  readonly hostAccess: boolean;
  readonly duplicateAddressDetection: boolean;
  /** Absent: layer 2 only. */
  readonly ipamType?: string;
  /** Set where the config's own `dns` replaces that of the IPAM plugin. */
  readonly dns?: CniDns;
}

const modes = ["bridge", "private", "vepa", "passthru"] as const;

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  ...parentFields,
  mode: v.optional(v.string(), ""),
  mtu: v.optional(int(), 0),
  mac: emptyAsAbsent(mac),
  bcqueuelen: v.optional(int({ min: 0, max: 0xffffffff }), 0),
  hostAccess: v.optional(v.boolean(), false),
  enabledad: v.optional(v.boolean(), true),
  ipam: ipamField,
  dns: dnsField,
});

const what = "macvlan configuration";

/**
 * @param args CNI_ARGS, for the one key that matters here; none for verbs that have none
 * @throws {CniError} 7 with the field and its value; 4 for CNI_ARGS
 */
export function parseMacvlanConfig(network: NetworkConfig, args: CniArgs = []): MacvlanConfig {
  const raw = parseConfig(schema, network.json, { what });
  const mode = raw.mode === "" ? "bridge" : modes.find((each) => each === raw.mode);
  if (mode === undefined) {
    throw invalid(
      `"mode" ${JSON.stringify(raw.mode)}: unknown macvlan mode: ${JSON.stringify(raw.mode)} (must be ${modes.join(", ")})`,
    );
  }
  if (raw.mtu !== 0 && (raw.mtu < 68 || raw.mtu > 65535)) {
    throw invalid(`"mtu" ${raw.mtu}: must be 0 or 68 to 65535`);
  }
  const parent = parseParent(raw, what);
  if (raw.hostAccess && mode !== "bridge") {
    throw invalid(`"hostAccess" true: only macvlans of mode bridge talk to each other, not of mode ${mode}`);
  }
  if (raw.hostAccess && parent.linkInContainer) {
    throw invalid('"hostAccess" and "linkInContainer" are both true: the host has no part in that network');
  }
  if (raw.hostAccess && raw.ipam.type === "") {
    throw invalid('"hostAccess" true: needs "ipam", to know which addresses lead to the container');
  }
  const address = requestedMac(network, args, { what, configured: raw.mac });
  return {
    parent,
    mode,
    ...(raw.mtu === 0 ? {} : { mtu: raw.mtu }),
    ...(address === undefined ? {} : { mac: address }),
    ...(raw.bcqueuelen === 0 ? {} : { broadcastQueueLength: raw.bcqueuelen }),
    hostAccess: raw.hostAccess,
    duplicateAddressDetection: raw.enabledad,
    ...(raw.ipam.type === "" ? {} : { ipamType: raw.ipam.type }),
    ...(raw.dns && overridesIpam(raw.dns) ? { dns: raw.dns } : {}),
  };
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use ${what}: ${problem}`);
}
