import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import { field } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { cidr } from "#cni/schema-values.ts";
import type { Cidr } from "#net/cidr.ts";

export interface Rate {
  readonly bytesPerSecond: bigint;
  readonly burstBytes: number;
}

/** The network configuration with every contradiction refused. */
export interface BandwidthConfig {
  /** To the container; undefined where that is not limited. */
  readonly ingress: Rate | undefined;
  /** From the container. */
  readonly egress: Rate | undefined;
  /** "all-but": traffic with these subnets is not limited; "only": nothing else is. */
  readonly mode: "all-but" | "only";
  readonly subnets: readonly Cidr[];
}

/** Go has 64 bits for it; JSON's numbers lose the last few of them. */
const bits = v.custom<number>(
  (input) => Number.isInteger(input) && Number(input) >= 0 && Number(input) < 2 ** 64,
  "must be a number of bits, 0 or more",
);

const rateFields = {
  ingressRate: v.optional(bits, 0),
  ingressBurst: v.optional(bits, 0),
  egressRate: v.optional(bits, 0),
  egressBurst: v.optional(bits, 0),
};
const subnetFields = {
  unshapedSubnets: v.optional(v.array(cidr), []),
  shapedSubnets: v.optional(v.array(cidr), []),
};

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({ ...rateFields, ...subnetFields });
const subnetSchema = goObject(subnetFields);

/**
 * Rates that stand in the configuration itself count before the runtime's, all of them; so do subnets. Subnets alone are
 * the operator's, for whatever rates the runtime gives.
 * @throws {CniError} 7 with the field and its value
 */
export function parseBandwidthConfig({ json, runtimeConfig }: NetworkConfig): BandwidthConfig {
  const isIn = (fields: object) => Object.keys(fields).some((name) => field(json, name) !== undefined);
  const own = { what: "bandwidth configuration" };
  const raw = isIn(rateFields)
    ? parseConfig(schema, json, own)
    : parseConfig(schema, field(runtimeConfig, "bandwidth") ?? {}, { what: "runtimeConfig.bandwidth" });
  const { unshapedSubnets, shapedSubnets } = isIn(subnetFields) ? parseConfig(subnetSchema, json, own) : raw;
  if (unshapedSubnets.length > 0 && shapedSubnets.length > 0) {
    throw invalid(
      "unshapedSubnets and shapedSubnets cannot be both specified, one of them should be discarded",
    );
  }
  return {
    ingress: parseRate("ingress", raw.ingressRate, raw.ingressBurst),
    egress: parseRate("egress", raw.egressRate, raw.egressBurst),
    mode: shapedSubnets.length > 0 ? "only" : "all-but",
    subnets: shapedSubnets.length > 0 ? shapedSubnets : unshapedSubnets,
  };
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use bandwidth configuration: ${problem}`);
}

/** What TBF's own attributes can say, in bytes. */
const maxBurst = 0xffffffff;

function parseRate(direction: "ingress" | "egress", rate: number, burst: number): Rate | undefined {
  const [rateField, burstField] = [`"${direction}Rate" ${rate}`, `"${direction}Burst" ${burst}`];
  if (rate === 0 && burst === 0) return undefined;
  if (burst === 0) throw invalid(`${rateField}: if rate is set, burst must also be set`);
  if (rate === 0) throw invalid(`${burstField}: if burst is set, rate must also be set`);
  if (rate < 8) throw invalid(`${rateField}: must be 8 bits a second at least, which is a byte`);
  const burstBytes = Math.floor(burst / 8);
  if (burstBytes > maxBurst) throw invalid(`${burstField}: burst cannot be more than 4GB`);
  return { bytesPerSecond: BigInt(Math.floor(rate / 8)), burstBytes };
}
