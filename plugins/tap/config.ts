import * as v from "valibot";
import type { CniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, ifName, int, mac } from "#cni/schema-values.ts";
import type { IfName } from "#net/ifname.ts";
import type { MacAddress } from "#net/mac.ts";
import { dnsField, ipamField, overridesIpam, requestedMac } from "#plugins/interface-arguments.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface TapConfig {
  /** Several processes, or threads of one, may each have a queue. */
  readonly multiQueue: boolean;
  /** Ids of those who may attach without privileges. */
  readonly owner?: number;
  readonly group?: number;
  /** Label of the device on a host with SELinux. */
  readonly selinuxContext?: string;
  /** A bridge inside the container, of which the device becomes a port. */
  readonly bridge?: IfName;
  readonly mtu?: number;
  readonly mac?: MacAddress;
  /** Absent: layer 2 only. */
  readonly ipamType?: string;
  /** Set where the config's own `dns` replaces that of the IPAM plugin. */
  readonly dns?: CniDns;
}

/** The last one means "none" to the kernel (-1). */
const id = v.optional(int({ min: 0, max: 0xffff_fffe }));

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  multiQueue: v.optional(v.boolean(), false),
  owner: id,
  group: id,
  selinuxContext: emptyAsAbsent(
    v.pipe(
      v.string(),
      v.check(
        (text) => /^[^\s:-][^\s:]*(:[^\s:]+){2,}$/.test(text),
        "must be a context such as user:role:type:level",
      ),
    ),
  ),
  bridge: emptyAsAbsent(ifName),
  mtu: v.optional(int({ min: 0, max: 65521 }), 0),
  mac: emptyAsAbsent(mac),
  ipam: ipamField,
  dns: dnsField,
});

const what = "tap configuration";

/** @throws {CniError} 7 with the field and its value; 4 for CNI_ARGS */
export function parseTapConfig(network: NetworkConfig, args: CniArgs = []): TapConfig {
  const raw = parseConfig(schema, network.json, { what });
  if (raw.mtu !== 0 && raw.mtu < 68) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use ${what}: "mtu" ${raw.mtu}: must be 0 or 68 to 65521`,
    );
  }
  const chosen = requestedMac(network, args, { what, configured: raw.mac });
  return {
    multiQueue: raw.multiQueue,
    ...(raw.owner === undefined ? {} : { owner: raw.owner }),
    ...(raw.group === undefined ? {} : { group: raw.group }),
    ...(raw.selinuxContext === undefined ? {} : { selinuxContext: raw.selinuxContext }),
    ...(raw.bridge === undefined ? {} : { bridge: raw.bridge }),
    ...(raw.mtu === 0 ? {} : { mtu: raw.mtu }),
    ...(chosen === undefined ? {} : { mac: chosen }),
    ...(raw.ipam.type === "" ? {} : { ipamType: raw.ipam.type }),
    ...(raw.dns && overridesIpam(raw.dns) ? { dns: raw.dns } : {}),
  };
}
