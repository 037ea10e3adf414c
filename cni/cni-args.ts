import { CniError, ErrorCode } from "./error.ts";

/** Pairs of CNI_ARGS in their order. */
export type CniArgs = readonly (readonly [key: string, value: string])[];

/**
 * Splits `K=V;K2=V2`. Each part has exactly one "=": a trailing ";" is refused, as the reference does
 * (pkg/types/args.go; the specification does not say).
 * @throws {CniError} code 4
 */
export function parseCniArgs(text: string): CniArgs {
  if (text === "") return [];
  return text.split(";").map((pair) => {
    const parsed = splitPair(pair);
    if (!parsed) {
      throw new CniError(
        ErrorCode.InvalidEnvironment,
        `Cannot parse CNI_ARGS: ARGS: invalid pair ${JSON.stringify(pair)}`,
      );
    }
    return parsed;
  });
}

/** The pairs that can be read, for a verb that has to go on whatever it is given. */
export function salvageCniArgs(text: string): CniArgs {
  return text.split(";").flatMap((pair) => {
    const parsed = splitPair(pair);
    return parsed ? [parsed] : [];
  });
}

function splitPair(pair: string): readonly [string, string] | undefined {
  const [key, value, ...rest] = pair.split("=");
  return key === undefined || value === undefined || rest.length > 0 ? undefined : [key, value];
}

/**
 * The values of the keys that a plugin knows. Keys are matched in their case ("IP", not "ip"), the last of
 * several counts. Any other key is refused, unless IgnoreUnknown is "1" or "true".
 * @example const { MAC } = selectCniArgs(request.args, ["MAC"]);
 * @throws {CniError} code 4
 */
export function selectCniArgs<const Key extends string>(
  args: CniArgs,
  known: readonly Key[],
): { readonly [K in Key]?: string } {
  const selected: { [K in Key]?: string } = {};
  const unknown: string[] = [];
  let isUnknownIgnored = false;
  for (const [key, value] of args) {
    const found = known.find((candidate) => candidate === key);
    if (found !== undefined) selected[found] = value;
    else if (key === "IgnoreUnknown") isUnknownIgnored = parseBoolean(key, value);
    else unknown.push(`${key}=${value}`);
  }
  if (unknown.length > 0 && !isUnknownIgnored) {
    const list = unknown.map((pair) => JSON.stringify(pair)).join(" ");
    throw new CniError(ErrorCode.InvalidEnvironment, `Cannot use CNI_ARGS: ARGS: unknown args [${list}]`);
  }
  return selected;
}

function parseBoolean(key: string, value: string): boolean {
  const text = value.toLowerCase();
  if (text === "1" || text === "true") return true;
  if (text === "0" || text === "false") return false;
  throw new CniError(
    ErrorCode.InvalidEnvironment,
    `Cannot use CNI_ARGS: ARGS: error parsing value of pair ${JSON.stringify(`${key}=${value}`)}: must be 0, 1, true or false`,
  );
}
