import { isIdentifier } from "./environment.ts";
import { CniError, ErrorCode } from "./error.ts";
import { field, isJsonObject, type JsonObject, type JsonValue } from "./json.ts";
import type { NetworkConfig, Verb } from "./plugin.ts";
import type { CniResult } from "./result.ts";
import { decodeResult } from "./result-versions.ts";
import { atLeast, type CniVersion, isCniVersion, oldestVersion } from "./version.ts";

/** Verbs that newer versions brought (SPEC.md, "Version considerations"). */
const firstVersion: { readonly [V in Verb]?: CniVersion } = { CHECK: "0.4.0", GC: "1.1.0", STATUS: "1.1.0" };

/**
 * Reads a request configuration as JSON.
 * @param parsed the same parsed already, if it is JSON
 * @throws {CniError} 6 if it is no JSON object
 */
export function parseStdin(stdin: string, parsed?: unknown): JsonObject {
  if (isJsonObject(parsed)) return parsed;
  let json: unknown;
  try {
    json = JSON.parse(stdin);
  } catch (cause) {
    throw new CniError(ErrorCode.DecodingFailure, "error unmarshall network config: stdin is no JSON", {
      cause,
    });
  }
  if (!isJsonObject(json)) {
    throw new CniError(ErrorCode.DecodingFailure, "error unmarshall network config: stdin is no JSON object");
  }
  return json;
}

/**
 * The version that a request asks for, if the plugin and the verb go with it.
 * @throws {CniError} 6 if it is no text, 1 if it does not fit
 */
export function negotiateVersion(json: JsonObject, verb: Verb, supported: readonly CniVersion[]): CniVersion {
  const asked = field(json, "cniVersion") ?? "";
  if (typeof asked !== "string") {
    throw new CniError(
      ErrorCode.DecodingFailure,
      `decoding version from network config: cniVersion ${JSON.stringify(asked)} must be a string`,
    );
  }
  const version = asked || oldestVersion;
  const first = firstVersion[verb];
  if (first && isCniVersion(version) && !atLeast(version, first)) {
    throw new CniError(ErrorCode.IncompatibleVersion, `config version does not allow ${verb}`, {
      details: `config is ${JSON.stringify(version)}, ${verb} needs ${JSON.stringify(first)}`,
    });
  }
  if (!isCniVersion(version) || !supported.includes(version)) {
    const list = supported.map((each) => JSON.stringify(each)).join(" ");
    throw new CniError(ErrorCode.IncompatibleVersion, "incompatible CNI versions", {
      details: `config is ${JSON.stringify(version)}, plugin supports [${list}]`,
    });
  }
  return version;
}

/**
 * The fields that every plugin shares.
 * @param warn told of a `prevResult` or `runtimeConfig` that can't be read where that must not stop the verb: all but
 *   ADD and CHECK
 * @throws {CniError} 7 for missing or malformed fields; 1 or 6 for the version
 */
export function readNetworkConfig(
  json: JsonObject,
  verb: Verb,
  supported: readonly CniVersion[],
  warn: (message: string) => void,
): NetworkConfig {
  const name = networkName(json);
  const cniVersion = negotiateVersion(json, verb, supported);
  const prevResult = readPrevResult(json, verb, cniVersion, warn);
  const args = field(json, "args");
  const cniArgs = isJsonObject(args) ? field(args, "cni") : undefined;
  return {
    cniVersion,
    name,
    type: textOrEmpty(json, "type"),
    json,
    ...(prevResult ? { prevResult } : {}),
    runtimeConfig: readRuntimeConfig(json, verb, warn),
    // Optional data that a plugin may ignore (CONVENTIONS.md): a wrong type must not fail the call.
    cniArgs: isJsonObject(cniArgs) ? cniArgs : {},
  };
}

/** Leases and records are kept in a directory of the network's name: NAME_MAX (include/uapi/linux/limits.h). */
const maxNameLength = 255;

function networkName(json: JsonObject): string {
  const name = field(json, "name") ?? "";
  if (typeof name !== "string") {
    throw new CniError(
      ErrorCode.DecodingFailure,
      `error unmarshall network config: name ${JSON.stringify(name)} must be a string`,
    );
  }
  if (name === "") throw new CniError(ErrorCode.InvalidNetworkConfig, "missing network name");
  if (!isIdentifier(name)) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, "invalid characters found in network name", {
      details: name,
    });
  }
  if (name.length > maxNameLength) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use network name ${JSON.stringify(name)}: it has ${name.length} characters, ${maxNameLength} is the most`,
    );
  }
  return name;
}

function readPrevResult(
  json: JsonObject,
  verb: Verb,
  version: CniVersion,
  warn: (message: string) => void,
): CniResult | undefined {
  const value = field(json, "prevResult");
  if (value === undefined) {
    if (verb !== "CHECK") return undefined;
    throw new CniError(ErrorCode.InvalidNetworkConfig, "Required prevResult missing");
  }
  try {
    return decodeResult(requireObject(value, "prevResult"), version, "prevResult");
  } catch (error) {
    if (verb === "ADD" || verb === "CHECK") throw error;
    warn(`Ignoring prevResult: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

function textOrEmpty(json: JsonObject, key: string): string {
  const value = field(json, key) ?? "";
  if (typeof value === "string") return value;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use network configuration: ${key} ${JSON.stringify(value)} must be a string`,
  );
}

function readRuntimeConfig(json: JsonObject, verb: Verb, warn: (message: string) => void): JsonObject {
  const value = field(json, "runtimeConfig") ?? {};
  if (isJsonObject(value) || verb === "ADD" || verb === "CHECK") return requireObject(value, "runtimeConfig");
  warn(`Ignoring runtimeConfig: ${JSON.stringify(value)} must be an object`);
  return {};
}

function requireObject(value: JsonValue, key: string): JsonObject {
  if (isJsonObject(value)) return value;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use network configuration: ${key} ${JSON.stringify(value)} must be an object`,
  );
}
