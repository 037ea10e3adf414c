import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import { goObject } from "#cni/schema.ts";
import { emptyAsAbsent, ifName, ip, oneOf } from "#cni/schema-values.ts";
import type { IfName } from "#net/ifname.ts";
import { formatIp, type IpAddress, isLoopback, isMulticast, isUnspecified } from "#net/ip.ts";

/**
 * How the world and the containers of a network meet, of one family. "open" is the reference's way: whoever has a route
 * reaches every port.
 */
export const gatewayModes = ["nat", "nat-unprotected", "routed", "isolated"] as const;
type Mode = (typeof gatewayModes)[number];
export type GatewayMode = Mode | "open";

/** Who may reach whom: what the reference plugin has no word for. */
export interface IsolationConfig {
  /** Nothing in or out, but between the containers and from the host. */
  readonly internal: boolean;
  /** False: containers of the network don't reach each other. */
  readonly icc: boolean;
  readonly gatewayMode: Readonly<Record<4 | 6, GatewayMode>>;
  /** Neither to other networks of the suite nor from them, but by published ports. */
  readonly networkIsolation: boolean;
  /** What the containers leave as, instead of the address of whichever interface they leave by. */
  readonly snat: Readonly<Partial<Record<4 | 6, IpAddress>>>;
  /** Interfaces of the host from which the containers are reached as if there were no protection. */
  readonly trustedInterfaces: readonly IfName[];
}

const gatewayMode = emptyAsAbsent(oneOf(gatewayModes));

/** Fields of the bridge's configuration. */
export const isolationFields = {
  internal: v.optional(v.boolean(), false),
  icc: v.optional(v.boolean(), true),
  gatewayMode: v.optional(goObject({ ipv4: gatewayMode, ipv6: gatewayMode }), {}),
  networkIsolation: v.optional(v.boolean(), false),
  snat: v.optional(goObject({ ipv4: emptyAsAbsent(ip), ipv6: emptyAsAbsent(ip) }), {}),
  trustedInterfaces: v.optional(v.array(ifName), []),
};

interface RawIsolation {
  readonly internal: boolean;
  readonly icc: boolean;
  readonly gatewayMode: { readonly ipv4?: Mode | undefined; readonly ipv6?: Mode | undefined };
  readonly networkIsolation: boolean;
  readonly snat: { readonly ipv4?: IpAddress | undefined; readonly ipv6?: IpAddress | undefined };
  readonly trustedInterfaces: readonly IfName[];
}

const familyNames = { 4: "ipv4", 6: "ipv6" } as const;

/**
 * @param masquerade by what the containers get another source address, if they do
 * @throws {CniError} 7 with the field and its value
 */
export function parseIsolation(
  raw: RawIsolation,
  masquerade: "nftables" | "iptables" | undefined,
): IsolationConfig {
  const { internal, icc, networkIsolation } = raw;
  const mode = (family: 4 | 6): GatewayMode => {
    const name = familyNames[family];
    const value = raw.gatewayMode[name] ?? "open";
    if (value === "isolated" && !internal) {
      throw invalid(`"gatewayMode.${name}" "isolated": needs "internal": true`);
    }
    return value;
  };
  const snat = (family: 4 | 6) => {
    const address = raw.snat[familyNames[family]];
    if (address) refuseUnusableSource(address, family, masquerade);
    return address ? { [family]: address } : {};
  };
  return {
    internal,
    icc,
    gatewayMode: { 4: mode(4), 6: mode(6) },
    networkIsolation,
    snat: { ...snat(4), ...snat(6) },
    trustedInterfaces: [...new Set(raw.trustedInterfaces)],
  };
}

function refuseUnusableSource(
  address: IpAddress,
  family: 4 | 6,
  masquerade: "nftables" | "iptables" | undefined,
): void {
  const refuse = (problem: string) =>
    invalid(`"snat.${familyNames[family]}" ${JSON.stringify(formatIp(address))}: ${problem}`);
  if (address.family !== family) throw refuse(`must be an IPv${family} address`);
  if (isUnspecified(address) || isMulticast(address) || isLoopback(address)) {
    throw refuse("must be an address that the host can have on the way out");
  }
  if (masquerade === undefined) throw refuse('needs "ipMasq": true');
  if (masquerade === "iptables") throw refuse("nftables alone can do that, and iptables is insisted on");
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use bridge configuration: ${problem}`);
}
