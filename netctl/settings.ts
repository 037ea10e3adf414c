import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { goObject, parseConfig } from "#cni/schema.ts";
import { cidr, int } from "#cni/schema-values.ts";
import { errorCode } from "#machine/io-error.ts";
import { formatCidr, hasHostBits, networkOf } from "#net/cidr.ts";
import { describeError, Failure } from "./failure.ts";
import { defaultPools, type SubnetPool } from "./network/subnet-pool.ts";

/** What an operator sets once for the host: docs/addresses.md. */
export interface Settings {
  /** Where networks without `--subnet` get theirs, in this order. A family that is not named keeps its default. */
  readonly pools: readonly SubnetPool[];
  /** Options of `network create` by driver; those of the command line win. */
  readonly networkOptions: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** Used where there is no such file. */
export const defaultSettingsFile = "/etc/netctl/config.json";

/** The names are those of Docker's daemon.json, so that its sections can be copied. */
const schema = goObject({
  "default-address-pools": v.optional(v.array(goObject({ base: cidr, size: int({ min: 1, max: 128 }) })), []),
  "default-network-opts": v.optional(v.record(v.string(), v.record(v.string(), v.string())), {}),
});

/**
 * @param path undefined: the default file, which need not exist
 * @throws {Failure} naming file, field and value
 */
export async function readSettings(path: string | undefined): Promise<Settings> {
  const file = path ?? defaultSettingsFile;
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" && path === undefined) return parseSettings("{}");
    throw new Failure(`Cannot read ${file}: ${describeError(error)}`, { cause: error });
  }
  try {
    return parseSettings(text);
  } catch (error) {
    throw new Failure(`Cannot use ${file}: ${describeError(error)}`, { cause: error });
  }
}

/** An empty text sets nothing. @throws an error that names field and value */
export function parseSettings(text: string): Settings {
  const json: unknown = text.trim() === "" ? {} : JSON.parse(text);
  const raw = parseConfig(schema, json, { what: "configuration" });
  const pools = raw["default-address-pools"].map(({ base, size }, index): SubnetPool => {
    const where = `default-address-pools[${index}]`;
    if (hasHostBits(base)) {
      throw new RangeError(`${where}.base ${formatCidr(base)} should be ${formatCidr(networkOf(base))}`);
    }
    const longest = base.address.family === 4 ? 30 : 126;
    if (size < base.prefixLength || size > longest) {
      throw new RangeError(
        `${where}.size ${size} must be ${base.prefixLength} to ${longest} for base ${formatCidr(base)}`,
      );
    }
    return { base, size };
  });
  const isNamed = (family: 4 | 6) => pools.some(({ base }) => base.address.family === family);
  return {
    pools: [...pools, ...defaultPools.filter(({ base }) => !isNamed(base.address.family))],
    networkOptions: raw["default-network-opts"],
  };
}
