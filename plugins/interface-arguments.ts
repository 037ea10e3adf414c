import * as v from "valibot";
import { type CniArgs, selectCniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest, NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, mac, textList } from "#cni/schema-values.ts";
import { atLeast } from "#cni/version.ts";
import { isMulticastMac, isZeroMac, type MacAddress, parseMac } from "#net/mac.ts";

/** A network configuration's own `dns`, for a plugin's schema. */
export const dnsField = v.optional(
  goObject({
    nameservers: v.exactOptional(textList),
    domain: v.exactOptional(v.string()),
    search: v.exactOptional(textList),
    options: v.exactOptional(textList),
  }),
);

/** `ipam`, of which an interface plugin only asks the type, for a plugin's schema. */
export const ipamField = v.optional(goObject({ type: v.optional(v.string(), "") }), {});

/**
 * Whether a configuration's own `dns` replaces that of the IPAM plugin: any list counts, even an empty one, and any
 * domain that is not empty, as the reference plugins decide it.
 */
export function overridesIpam(dns: CniDns): boolean {
  return (
    dns.nameservers !== undefined ||
    dns.search !== undefined ||
    dns.options !== undefined ||
    (dns.domain ?? "") !== ""
  );
}

/** CNI_ARGS keys that plugins of the suite know; the last two are read by the IPAM plugins. */
const knownArgs = ["MAC", "IP", "GATEWAY"] as const;

const macArgument = goObject({ mac: emptyAsAbsent(mac) });

/**
 * The MAC address that an attachment asks for, from whichever channel wins: CNI_ARGS, then `args.cni.mac`, then
 * `runtimeConfig.mac`, each before the ones that precede it here.
 * @param options.what as it reads after "Cannot use": `bridge configuration`
 * @param options.configured `mac` of the configuration itself, which any of those replaces
 * @throws {CniError} 7 with the field and its value; 4 for CNI_ARGS
 */
export function requestedMac(
  network: NetworkConfig,
  args: CniArgs,
  options: { readonly what: string; readonly configured?: MacAddress | undefined },
): MacAddress | undefined {
  const { MAC: text } = selectCniArgs(args, knownArgs);
  const inEnvironment = text ? parseMacArgument(text) : undefined;
  const inArgs = parseConfig(macArgument, network.cniArgs, { what: "args.cni" }).mac;
  const inRuntimeConfig = parseConfig(macArgument, network.runtimeConfig, { what: "runtimeConfig" }).mac;
  const effective = inRuntimeConfig ?? inArgs ?? inEnvironment ?? options.configured;
  const refuse = (problem: string) => {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use ${options.what}: "mac" ${JSON.stringify(effective)}: ${problem}`,
    );
  };
  if (effective !== undefined && isMulticastMac(effective)) {
    refuse("must be the address of one interface, not of a group");
  }
  if (effective !== undefined && isZeroMac(effective)) refuse("must be an address, not zero");
  return effective;
}

function parseMacArgument(text: string): MacAddress {
  try {
    return parseMac(text);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(ErrorCode.InvalidEnvironment, `Cannot use CNI_ARGS: MAC: ${problem}`, { cause });
  }
}

/**
 * Results without addresses can't be written in versions before 0.3.0: then nothing is made.
 * @throws {CniError} 7
 */
export function refuseLayer2InOldVersion(request: AddRequest, ipamType: string | undefined): void {
  if (ipamType !== undefined || atLeast(request.config.cniVersion, "0.3.0")) return;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot convert result to CNI version ${request.config.cniVersion}: no valid IP addresses without "ipam"`,
  );
}
