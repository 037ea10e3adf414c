import * as v from "valibot";
import type { CniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, int, oneOf } from "#cni/schema-values.ts";
import type { MacAddress } from "#net/mac.ts";
import { dnsField, ipamField, overridesIpam, requestedMac } from "#plugins/interface-arguments.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface PtpConfig {
  /** Undefined: no masquerading. The suite serves both names by nftables, unless `insistOnBackend` is set. */
  readonly masquerade?: "nftables" | "iptables";
  /** Of both ends; undefined: the kernel's default. */
  readonly mtu?: number;
  /** Of the container's end, from whichever channel won. */
  readonly mac?: MacAddress;
  readonly ipamType: string;
  /** Set where the config's own `dns` replaces that of the IPAM plugin. */
  readonly dns?: CniDns;
}

const flag = v.optional(v.boolean(), false);

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  ipMasq: flag,
  ipMasqBackend: emptyAsAbsent(oneOf(["iptables", "nftables"])),
  insistOnBackend: flag,
  mtu: v.optional(int({ min: 0, max: 65535 }), 0),
  ipam: ipamField,
  dns: dnsField,
});

const what = "ptp configuration";

/** @throws {CniError} 7 with the field and its value; 4 for CNI_ARGS */
export function parsePtpConfig(network: NetworkConfig, args: CniArgs = []): PtpConfig {
  const raw = parseConfig(schema, network.json, { what });
  if (raw.mtu !== 0 && raw.mtu < 68) throw invalid(`"mtu" ${raw.mtu}: must be 0 or 68 to 65535`);
  if (raw.ipam.type === "")
    throw invalid('"ipam.type" is missing: the route to the container needs its address');
  if (raw.ipMasq && raw.insistOnBackend && raw.ipMasqBackend === undefined) {
    throw invalid('"insistOnBackend" true: needs "ipMasqBackend" to say which one');
  }
  // The reference reads no CNI_ARGS here, and so refuses none: what else stands there is the IPAM plugin's.
  const ownArgs = args.filter(([key]) => key === "MAC");
  const mac = requestedMac(network, ownArgs, { what });
  return {
    ...(raw.ipMasq
      ? { masquerade: raw.insistOnBackend && raw.ipMasqBackend === "iptables" ? "iptables" : "nftables" }
      : {}),
    ...(raw.mtu === 0 ? {} : { mtu: raw.mtu }),
    ...(mac === undefined ? {} : { mac }),
    ipamType: raw.ipam.type,
    ...(raw.dns && overridesIpam(raw.dns) ? { dns: raw.dns } : {}),
  };
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use ${what}: ${problem}`);
}
