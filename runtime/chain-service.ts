import { type NetworkList, readConfList } from "#cni/conflist.ts";
import { splitPath } from "#cni/environment.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import { field, isJsonObject, type JsonObject, type JsonValue } from "#cni/json.ts";
import type { Environment, Verb } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { decodeResult, encodeResult } from "#cni/result-versions.ts";
import type { ChainOutcome, LiveAttachment } from "./chain-plugins.ts";
import { type AttachmentTarget, callEnvironment, PluginFailure, type PluginHost } from "./plugin-call.ts";

/** A verb of a chain that is about one attachment. */
export interface AttachmentCall {
  readonly verb: Extract<Verb, "ADD" | "DEL" | "CHECK">;
  readonly list: NetworkList;
  readonly target: AttachmentTarget;
  /** The result of its ADD, for DEL and CHECK. */
  readonly prevResult?: CniResult | undefined;
}

/** A verb of a chain that is about the network as a whole. */
export type NetworkCall =
  | { readonly verb: "GC"; readonly list: NetworkList; readonly valid: readonly LiveAttachment[] }
  | { readonly verb: "STATUS"; readonly list: NetworkList };

/** One verb of a chain, for a service to carry out as a whole. */
export type ChainCall = AttachmentCall | NetworkCall;

/** Runs all plugins of a chain in one request, where such a service is near. */
export interface ChainService {
  /**
   * @returns undefined where nobody has done anything that the caller could not do again: then it runs the plugins itself
   * @throws {CniError} 11 where somebody may still be at it
   */
  run(call: ChainCall, host: PluginHost, signal?: AbortSignal): Promise<ChainOutcome | undefined>;
}

/** As environment and stdin of one request. */
export function encodeChainCall(
  call: ChainCall,
  host: PluginHost,
): { readonly environment: Environment; readonly stdin: string } {
  const { verb, list } = call;
  const body = {
    cniVersion: list.cniVersion,
    name: list.name,
    plugins: list.plugins.map(({ json }) => json),
    ...detailsOf(call),
  };
  const environment = callEnvironment(verb, host, "target" in call ? call.target : undefined);
  return { environment, stdin: JSON.stringify(body) };
}

function detailsOf(call: ChainCall): object {
  if (call.verb === "STATUS") return {};
  if (call.verb === "GC") return { valid: call.valid };
  const { list, target, prevResult } = call;
  return {
    args: target.args.map(([key, value]) => [key, value]),
    capabilityArgs: target.capabilityArgs,
    ...(prevResult === undefined ? {} : { prevResult: encodeResult(prevResult, list.cniVersion) }),
  };
}

/** @throws {CniError} 4, 6 or 7 */
export function decodeChainCall(
  environment: Environment,
  json: unknown,
): { readonly call: ChainCall; readonly path: readonly string[] } {
  const verb = environment["CNI_COMMAND"];
  if (!isChainVerb(verb)) {
    throw new CniError(ErrorCode.InvalidEnvironment, `Cannot run a chain: CNI_COMMAND is ${verb}`);
  }
  if (!isJsonObject(json))
    throw new CniError(ErrorCode.DecodingFailure, "Cannot run a chain: no JSON object");
  const { cniVersion = null, name = null, plugins = null } = json;
  const list = readConfList({ cniVersion, name, plugins });
  const path = splitPath(environment["CNI_PATH"] ?? "");
  if (verb === "STATUS") return { call: { verb, list }, path };
  if (verb === "GC") return { call: { verb, list, valid: liveOf(field(json, "valid")) }, path };
  const prevResult = field(json, "prevResult");
  const capabilityArgs = field(json, "capabilityArgs");
  const target: AttachmentTarget = {
    containerId: environment["CNI_CONTAINERID"] ?? "",
    netns: environment["CNI_NETNS"] ?? "",
    ifName: environment["CNI_IFNAME"] ?? "",
    args: pairsOf(field(json, "args")),
    capabilityArgs: isJsonObject(capabilityArgs) ? capabilityArgs : {},
  };
  const decoded = isJsonObject(prevResult) ? decodeResult(prevResult, list.cniVersion) : undefined;
  return { call: { verb, list, target, prevResult: decoded }, path };
}

function isChainVerb(verb: unknown): verb is ChainCall["verb"] {
  return verb === "ADD" || verb === "DEL" || verb === "CHECK" || verb === "GC" || verb === "STATUS";
}

/** @throws {CniError} 6: to take a list that can't be read for a shorter one would remove what lives */
function liveOf(value: JsonValue | undefined): readonly LiveAttachment[] {
  if (!Array.isArray(value)) throw unreadableValid(value);
  return (value as readonly JsonValue[]).map((each) => {
    const { containerId, ifName } = isJsonObject(each) ? each : {};
    if (typeof containerId !== "string" || typeof ifName !== "string") throw unreadableValid(each);
    return { containerId, ifName };
  });
}

function unreadableValid(value: JsonValue | undefined): CniError {
  const text = JSON.stringify(value) ?? "nothing";
  return new CniError(ErrorCode.DecodingFailure, `Cannot run GC of a chain: "valid" has ${text}`);
}

function pairsOf(value: JsonValue | undefined): AttachmentTarget["args"] {
  return (Array.isArray(value) ? (value as readonly JsonValue[]) : []).flatMap((pair) =>
    Array.isArray(pair) && typeof pair[0] === "string" && typeof pair[1] === "string"
      ? [[pair[0], pair[1]] as const]
      : [],
  );
}

/** What became of a call, as JSON. */
export function encodeChainOutcome({ result, errors }: ChainOutcome, { list }: ChainCall): JsonObject {
  return {
    ...(result ? { result: encodeResult(result, list.cniVersion) } : {}),
    errors: errors.map((error): JsonObject => {
      const { code, message, details } = CniError.from(error instanceof PluginFailure ? error.cause : error);
      const origin = error instanceof PluginFailure ? { type: error.type, verb: error.verb } : {};
      return { ...origin, code, message, details };
    }),
  };
}

/** @throws {CniError} 6 for anything that `encodeChainOutcome` would not have written */
export function decodeChainOutcome(json: unknown, { verb, list }: ChainCall): ChainOutcome {
  // Refused as a whole, before any plugin or after all of them.
  if (isJsonObject(json) && typeof json["msg"] === "string") {
    return { errors: [decodeError({ ...json, message: json["msg"] })] };
  }
  const errors = isJsonObject(json) ? json["errors"] : undefined;
  if (!isJsonObject(json) || !Array.isArray(errors)) throw unreadable(json);
  const result = json["result"];
  if (verb === "ADD" && errors.length === 0 && !isJsonObject(result)) throw unreadable(json);
  return {
    ...(isJsonObject(result) ? { result: decodeResult(result, list.cniVersion) } : {}),
    errors: (errors as readonly JsonValue[]).map(decodeError),
  };
}

function decodeError(json: JsonValue): Error {
  if (!isJsonObject(json)) throw unreadable(json);
  const { type, verb: failed, code, message, details } = json;
  const cause = new CniError(
    typeof code === "number" ? code : ErrorCode.Internal,
    typeof message === "string" ? message : "unknown error",
    { details: typeof details === "string" ? details : "" },
  );
  const isOfPlugin = typeof type === "string" && isChainVerb(failed);
  return isOfPlugin ? new PluginFailure(type, failed, cause) : cause;
}

function unreadable(json: unknown): CniError {
  const text = JSON.stringify(json) ?? "nothing";
  return new CniError(ErrorCode.DecodingFailure, `Cannot use netd's answer about a chain: ${text}`);
}
