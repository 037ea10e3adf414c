import { isDeepStrictEqual } from "node:util";
import { ErrorCode } from "#cni/error.ts";
import { isJsonObject, type JsonObject } from "#cni/json.ts";
import type { AddRequest, CheckRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { decodeResult, encodeResult } from "#cni/result-versions.ts";
import { atLeast, newestVersion } from "#cni/version.ts";
import type { IntactRecord, JournalRecord } from "#journal/record.ts";
import type { PluginHost } from "#plugins/context.ts";
import { toCniError } from "#plugins/failure.ts";
import { check } from "./check.ts";

/**
 * The record, if it is of an ADD that has succeeded with the very request that comes again: its caller died, or lost
 * patience, before it heard of the result.
 */
export function repetitionOf(
  record: JournalRecord | undefined,
  request: AddRequest,
  host: PluginHost,
): IntactRecord | undefined {
  if (record?.phase !== "done" || record.bootId !== host.bootId) return undefined;
  const { path, dev, ino } = request.netns;
  const isSame =
    isDeepStrictEqual(record.netns, { path, dev, ino }) &&
    isDeepStrictEqual(record.config, configOf(request)) &&
    isDeepStrictEqual(record.args, request.args);
  return isSame ? record : undefined;
}

/**
 * The result of that ADD, if all that it made is still there, as CHECK finds it; else undefined.
 * @throws {CniError} 5 or 11 where that can't be found out: what may be whole is not to be taken away
 */
export async function standingResult(
  record: IntactRecord,
  request: AddRequest,
  host: PluginHost,
): Promise<CniResult | undefined> {
  try {
    if (!isJsonObject(record.result)) return undefined;
    const result = decodeResult(record.result, newestVersion);
    await check(checkOf(request, result), host);
    return result;
  } catch (error) {
    if (unknowable.includes(toCniError(error).code)) throw error;
    // A DEL that was killed, or somebody else, has taken a part of it away.
    return undefined;
  }
}

/** What CHECK says when it is itself that fails. */
const unknowable: readonly number[] = [ErrorCode.IoFailure, ErrorCode.TryAgainLater];

/** What the journal keeps of a request. */
export function configOf(request: AddRequest): JsonObject {
  const { prevResult: _, ...config } = request.config.json;
  return config;
}

function checkOf(request: AddRequest, prevResult: CniResult): CheckRequest {
  // There is no CHECK before that.
  const cniVersion = atLeast(request.config.cniVersion, "0.4.0") ? request.config.cniVersion : "0.4.0";
  const json = { ...request.config.json, cniVersion, prevResult: encodeResult(prevResult, cniVersion) };
  return {
    ...request,
    verb: "CHECK",
    config: { ...request.config, cniVersion, json, prevResult },
    stdin: JSON.stringify(json),
    prevResult,
  };
}
