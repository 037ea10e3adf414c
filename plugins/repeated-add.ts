import { isDeepStrictEqual } from "node:util";
import { CniError, ErrorCode } from "#cni/error.ts";
import { isJsonObject, type JsonObject } from "#cni/json.ts";
import type { AddRequest, CheckRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { decodeResult, encodeResult } from "#cni/result-versions.ts";
import { atLeast, newestVersion } from "#cni/version.ts";
import type { IntactRecord, JournalRecord } from "#journal/record.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { IfName } from "#net/ifname.ts";
import type { PluginHost } from "./context.ts";
import { toCniError } from "./failure.ts";

/** What of a plugin makes room for another ADD. */
interface RoomMaker {
  readonly ifName: IfName;
  readonly container: NetworkNamespace;
  readonly request: AddRequest;
  readonly host: PluginHost;
  /** The plugin's CHECK. */
  readonly check: (request: CheckRequest, host: PluginHost) => Promise<void>;
  /** Takes away what a record is about, and the record itself. */
  readonly remove: (record: JournalRecord) => Promise<void>;
}

/**
 * Makes room for the attachment where one was before: an ADD that was killed, one whose caller never heard of the
 * result, a DEL that did not end, or a container that is started again without a DEL in between.
 * @returns the result, where all of it is there already
 * @throws {CniError} 4 where the container has an interface of that name from elsewhere
 */
export async function adoptOrClear(
  record: JournalRecord | undefined,
  { ifName, container, request, host, check, remove }: RoomMaker,
): Promise<CniResult | undefined> {
  const repeated = repetitionOf(record, request, host);
  if (repeated) {
    const standing = await standingResult(repeated, request, (repetition) => check(repetition, host));
    if (standing) return standing;
  } else if (record?.phase !== "intent" && record?.phase !== "leaving" && readLink(container, ifName)) {
    throw interfaceExists(ifName);
  }
  if (!record) return undefined;
  await remove(record);
  if (readLink(container, ifName)) throw interfaceExists(ifName);
  return undefined;
}

/** The container has something else under the name that is asked for. */
export function interfaceExists(ifName: IfName, cause?: unknown): CniError {
  return new CniError(
    ErrorCode.InvalidEnvironment,
    `container already has an interface named ${JSON.stringify(ifName)}`,
    cause === undefined ? {} : { cause },
  );
}

/**
 * The record, if it is of an ADD that has succeeded with the very request that comes again: its caller died, or lost
 * patience, before it heard of the result.
 */
function repetitionOf(
  record: JournalRecord | undefined,
  request: AddRequest,
  host: PluginHost,
): IntactRecord | undefined {
  if (record?.phase !== "done" || record.bootId !== host.bootId) return undefined;
  const { path, dev, ino } = request.netns;
  const isSame =
    isDeepStrictEqual(record.netns, { path, dev, ino }) &&
    isDeepStrictEqual(record.config, recordedConfig(request)) &&
    isDeepStrictEqual(record.args, request.args);
  return isSame ? record : undefined;
}

/**
 * The result of that ADD, if all that it made is still there, as CHECK finds it; else undefined.
 * @throws {CniError} 5 or 11 where that can't be found out: what may be whole is not to be taken away
 */
async function standingResult(
  record: IntactRecord,
  request: AddRequest,
  check: (request: CheckRequest) => Promise<void>,
): Promise<CniResult | undefined> {
  try {
    if (!isJsonObject(record.result)) return undefined;
    const result = decodeResult(record.result, newestVersion);
    await check(checkOf(request, result));
    return result;
  } catch (error) {
    if (unknowable.includes(toCniError(error).code)) throw error;
    // A DEL that was killed, or somebody else, has taken a part of it away.
    return undefined;
  }
}

/** What CHECK says when it is itself that fails. */
const unknowable: readonly number[] = [ErrorCode.IoFailure, ErrorCode.TryAgainLater];

/** What the journal keeps of a request's configuration. */
export function recordedConfig(request: AddRequest): JsonObject {
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
