import * as v from "valibot";
import { selectCniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniRoute } from "#cni/result.ts";
import { decodeResult } from "#cni/result-versions.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { cidr, emptyAsAbsent, ip, parsedText } from "#cni/schema-values.ts";
import { atLeast } from "#cni/version.ts";
import { completeRangeSets, familyOf, type RangeSet, type RangeSpec, unmapped } from "#ipam/range.ts";
import { parseCidr } from "#net/cidr.ts";
import { type IpAddress, parseIp } from "#net/ip.ts";

/** Everything that ADD needs, complete and without contradiction. */
export interface HostLocalConfig {
  /** One address of each. */
  readonly sets: readonly RangeSet[];
  readonly requested: readonly IpAddress[];
  readonly routes: readonly CniRoute[];
  readonly dataDir: string;
  readonly resolvConf?: string | undefined;
}

const what = "host-local configuration";

const rangeEntries = {
  rangeStart: emptyAsAbsent(ip),
  rangeEnd: emptyAsAbsent(ip),
  gateway: emptyAsAbsent(ip),
};
const rangeSets = v.optional(v.array(v.array(goObject({ subnet: cidr, ...rangeEntries }))), []);

/** The fields of `ipam`, for who looks for others. */
export const ipamSchema = goObject({
  subnet: v.optional(cidr),
  ...rangeEntries,
  ranges: rangeSets,
  requestRanges: rangeSets,
  routes: v.optional(v.array(v.custom<JsonObject>(isJsonObject, "must be an object")), []),
  resolvConf: emptyAsAbsent(v.string()),
});

/** "10.0.0.5" or "10.0.0.5/24": the prefix length is the subnet's in any case. */
const requestedIp = parsedText((text) =>
  unmapped(text.includes("/") ? parseCidr(text).address : parseIp(text)),
);
const requestedIps = v.optional(v.array(requestedIp), []);

const requestSchema = goObject({
  ipam: ipamSchema,
  runtimeConfig: v.optional(goObject({ ipRanges: rangeSets, ips: requestedIps }), {}),
  args: v.optional(goObject({ cni: v.optional(goObject({ ips: requestedIps }), {}) }), {}),
});

/**
 * @param args CNI_ARGS
 * @throws {CniError} 7 for the configuration, 4 for CNI_ARGS
 */
export function parseHostLocalConfig(
  config: NetworkConfig,
  args: readonly (readonly [key: string, value: string])[],
  defaultDataDir: string,
): HostLocalConfig {
  const dataDir = parseDataDir(config, defaultDataDir);
  const { ipam, runtimeConfig, args: sent } = parseConfig(requestSchema, config.json, { what });
  const sets = completeSets([...runtimeConfig.ipRanges, ...configuredRanges(ipam)]);
  refuseSecondOfFamily(config, sets);
  return {
    sets,
    requested: [...requestedByArgs(args), ...(sent.cni?.ips ?? []), ...runtimeConfig.ips],
    routes: decodeResult({ cniVersion: "1.1.0", routes: ipam.routes }, config.cniVersion, "ipam").routes,
    dataDir,
    resolvConf: ipam.resolvConf,
  };
}

/**
 * The range sets of the configuration itself, for STATUS, which gets nothing from the runtime. Empty only where all
 * ranges come from there.
 * @throws {CniError} 7
 */
export function parseConfiguredSets(config: NetworkConfig): readonly RangeSet[] {
  const { ipam } = parseConfig(goObject({ ipam: ipamSchema }), config.json, { what });
  const specs = configuredRanges(ipam);
  return specs.length === 0 && expectsRangesFromRuntime(config) ? [] : completeSets(specs);
}

function configuredRanges(ipam: v.InferOutput<typeof ipamSchema>): RangeSpec[][] {
  const { subnet, rangeStart, rangeEnd, gateway, ranges, requestRanges } = ipam;
  const sets = ranges.map((set, index) => [
    ...set,
    ...(requestRanges[index] ?? []).map((range) => ({ ...range, onRequest: true })),
  ]);
  return subnet ? [[{ subnet, rangeStart, rangeEnd, gateway }], ...sets] : sets;
}

/**
 * `ipam.dataDir`, for the verbs that have to work whatever the rest of the configuration has become.
 * @throws {CniError} 7 if there is no `ipam` at all
 */
export function parseDataDir(config: NetworkConfig, defaultDataDir: string): string {
  if (field(config.json, "ipam") === undefined) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, "IPAM config missing 'ipam' key");
  }
  const schema = goObject({ ipam: goObject({ dataDir: emptyAsAbsent(v.string()) }) });
  const { ipam } = parseConfig(schema, config.json, { what });
  // The reference takes a relative one from its working directory; a service has none of its own.
  if (ipam.dataDir === undefined) return defaultDataDir;
  return ipam.dataDir.startsWith("/") ? ipam.dataDir : `/${ipam.dataDir}`;
}

/** True for a configuration that gets more ranges with each ADD, and so may have none of its own. */
function expectsRangesFromRuntime(config: NetworkConfig): boolean {
  const capabilities = field(config.json, "capabilities");
  return isJsonObject(capabilities) && field(capabilities, "ipRanges") === true;
}

function completeSets(sets: readonly (readonly RangeSpec[])[]): RangeSet[] {
  try {
    return completeRangeSets(sets);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use ${what}: ${error.message}`, {
      cause: error,
    });
  }
}

function requestedByArgs(args: readonly (readonly [key: string, value: string])[]): IpAddress[] {
  const { IP: text } = selectCniArgs(args, ["IP"]);
  if (!text) return [];
  const { IP: address } = parseConfig(
    v.object({ IP: requestedIp }),
    { IP: text },
    {
      what: "CNI_ARGS",
      code: ErrorCode.InvalidEnvironment,
    },
  );
  return [address];
}

/** Results below 0.3.0 hold one address of each family. */
function refuseSecondOfFamily(config: NetworkConfig, sets: readonly RangeSet[]): void {
  if (atLeast(config.cniVersion, "0.3.0")) return;
  const families = sets.flatMap(([range]) => (range ? [familyOf(range)] : []));
  if (new Set(families).size < families.length) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `CNI version ${config.cniVersion} does not support more than 1 address per family`,
    );
  }
}
