import * as v from "valibot";
import { selectCniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import { field, isJsonObject, type JsonObject, type JsonValue } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns, CniRoute } from "#cni/result.ts";
import { decodeResult } from "#cni/result-versions.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, ip, textList } from "#cni/schema-values.ts";
import { atLeast } from "#cni/version.ts";
import { type Cidr, containsIp, parseCidr } from "#net/cidr.ts";
import { type IpAddress, parseIp } from "#net/ip.ts";

export interface StaticAddress {
  readonly address: Cidr;
  readonly gateway?: IpAddress;
}

export interface StaticConfig {
  readonly addresses: readonly StaticAddress[];
  readonly routes: readonly CniRoute[];
  readonly dns: CniDns;
}

const what = "static configuration";

/** The fields of `ipam`, for who looks for others. */
export const ipamSchema = goObject({
  addresses: v.optional(v.array(goObject({ address: v.string(), gateway: emptyAsAbsent(ip) })), []),
  routes: v.optional(v.array(v.custom<JsonObject>(isJsonObject, "must be an object")), []),
  dns: v.optional(v.custom<JsonObject>(isJsonObject, "must be an object")),
});
const requestSchema = goObject({
  ipam: ipamSchema,
  runtimeConfig: v.optional(goObject({ ips: v.optional(textList, []) }), {}),
  args: v.optional(goObject({ cni: v.optional(goObject({ ips: v.optional(textList, []) }), {}) }), {}),
});

/**
 * Addresses of `ipam.addresses` and of CNI_ARGS; `args.cni.ips` replaces both, `runtimeConfig.ips` all three.
 * @param args CNI_ARGS
 * @throws {CniError} 7 for the configuration, 4 for CNI_ARGS
 */
export function parseStaticConfig(
  config: NetworkConfig,
  args: readonly (readonly [key: string, value: string])[],
): StaticConfig {
  if (field(config.json, "ipam") === undefined) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, "IPAM config missing 'ipam' key");
  }
  const { ipam, runtimeConfig, args: sent } = parseConfig(requestSchema, config.json, { what });
  const { IP = "", GATEWAY = "" } = selectCniArgs(args, ["IP", "GATEWAY"]);
  const { InvalidNetworkConfig, InvalidEnvironment } = ErrorCode;

  const configured = ipam.addresses.map(({ address, gateway }): StaticAddress => {
    const cidr = inCidrNotation(
      address,
      InvalidNetworkConfig,
      "the 'address' field is expected to be in CIDR notation",
    );
    return gateway ? { address: cidr, gateway } : { address: cidr };
  });
  const asked = words(IP).map((text) => ({
    address: inCidrNotation(text, InvalidEnvironment, "the 'ip' field is expected to be in CIDR notation"),
  }));
  const given = [...configured, ...asked].map((each) => withGateway(each, words(GATEWAY).map(parseGateway)));
  const replaced = [runtimeConfig.ips, sent.cni?.ips ?? []]
    .find((ips) => ips.length > 0)
    ?.map((text) => ({
      address: inCidrNotation(
        text,
        InvalidNetworkConfig,
        "an entry in the 'ips' field is NOT in CIDR notation",
      ),
    }));
  const addresses = replaced ?? given;
  refuseSecondOfFamily(config, addresses);
  return { addresses, ...parseRoutesAndDns(ipam, config) };
}

/** They have the form that they have in a result. */
function parseRoutesAndDns(
  { routes, dns }: { readonly routes: readonly JsonObject[]; readonly dns?: JsonObject | undefined },
  config: NetworkConfig,
): Pick<StaticConfig, "routes" | "dns"> {
  const json: Record<string, JsonValue> = { cniVersion: "1.1.0", routes };
  if (dns) json["dns"] = dns;
  const parsed = decodeResult(json, config.cniVersion, "ipam");
  return { routes: parsed.routes, dns: parsed.dns };
}

/** Parts of a comma-separated list. */
function words(text: string): string[] {
  return text === "" ? [] : text.split(",").map((each) => each.trim());
}

function inCidrNotation(text: string, code: ErrorCode, expectation: string): Cidr {
  try {
    return parseCidr(text);
  } catch (cause) {
    throw new CniError(code, `${expectation}, got: '${text}'`, { cause });
  }
}

function parseGateway(text: string): IpAddress {
  try {
    return parseIp(text);
  } catch (cause) {
    throw new CniError(ErrorCode.InvalidEnvironment, `invalid gateway address: ${text}`, { cause });
  }
}

/** The last of the gateways that is in the address's subnet. */
function withGateway(each: StaticAddress, gateways: readonly IpAddress[]): StaticAddress {
  const gateway = gateways.findLast((candidate) => containsIp(each.address, candidate));
  return gateway ? { address: each.address, gateway } : each;
}

/** Results below 0.3.0 hold one address of each family. */
function refuseSecondOfFamily(config: NetworkConfig, addresses: readonly StaticAddress[]): void {
  if (atLeast(config.cniVersion, "0.3.0")) return;
  const families = addresses.map(({ address }) => address.address.family);
  if (new Set(families).size < families.length) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `CNI version ${config.cniVersion} does not support more than 1 address per family`,
    );
  }
}
