import { isDeepStrictEqual } from "node:util";
import { CniError } from "#cni/error.ts";
import { field, type JsonObject } from "#cni/json.ts";
import type { AddRequest, DelRequest, GcRequest, NamespaceRef } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import type { AttachmentKey, IntactRecord, JournalRecord } from "#journal/record.ts";

/** An attachment that has to go, with all that is known of it: from its record, or else from the request. */
export interface Departing {
  readonly key: AttachmentKey;
  readonly record?: JournalRecord;
  /** What its IPAM plugin is asked to release, with the configuration that it was asked by. */
  readonly release: DelRequest;
  readonly netns?: NamespaceRef;
  readonly prevResult?: CniResult;
}

/** What a DEL is about. */
export function describeRequest(record: JournalRecord | undefined, request: DelRequest): Departing {
  const { containerId, ifName, netns } = request;
  const { prevResult } = request.config;
  const recorded = intact(record);
  // The file may say something else by now than when the addresses were given out.
  const hasChanged =
    recorded !== undefined &&
    !isDeepStrictEqual(field(recorded.config, "ipam"), field(request.config.json, "ipam"));
  return {
    key: { network: request.config.name, containerId, ifName },
    ...(record ? { record } : {}),
    release: hasChanged ? withConfig(request, recorded.config) : request,
    ...(netns ? { netns } : {}),
    ...(prevResult ? { prevResult } : {}),
  };
}

/** What a record is about that is found by a GC, or by an ADD of the same attachment. */
export function describeRecord(record: JournalRecord, request: AddRequest | GcRequest): Departing {
  const { containerId, ifName } = record.key;
  const recorded = intact(record);
  const args = recorded?.args ?? [];
  const release: DelRequest = {
    verb: "DEL",
    config: request.config,
    environment: {
      ...request.environment,
      CNI_COMMAND: "DEL",
      CNI_CONTAINERID: containerId,
      CNI_IFNAME: ifName,
      CNI_NETNS: "",
      CNI_ARGS: args.map(([key, value]) => `${key}=${value}`).join(";"),
    },
    path: request.path,
    stdin: request.stdin,
    signal: request.signal,
    onStderr: request.onStderr,
    containerId,
    ifName,
    args,
  };
  return { key: record.key, record, release: recorded ? withConfig(release, recorded.config) : release };
}

/** The record, unless it can't be read. */
export function intact(record: JournalRecord | undefined): IntactRecord | undefined {
  return record === undefined || record.phase === "torn" ? undefined : record;
}

function withConfig(request: DelRequest, json: JsonObject): DelRequest {
  const { prevResult: _, ...config } = request.config;
  return { ...request, config: { ...config, json }, stdin: JSON.stringify(json) };
}

/** Collects what goes wrong in a removal that goes on whatever happens. */
export class Attempts {
  readonly errors: unknown[] = [];

  async attempt(action: () => Promise<void> | void): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.errors.push(error);
    }
  }

  /** @throws one error for all that went wrong, if anything did */
  throwIfAny(key: AttachmentKey): void {
    const { errors } = this;
    if (errors.length === 0) return;
    if (errors.length === 1) throw errors[0];
    const first = CniError.from(errors[0]);
    throw new CniError(first.code, first.message, {
      details: `${errors.length} steps failed for container ${JSON.stringify(key.containerId)}`,
      cause: new AggregateError(errors, "the others were done"),
    });
  }
}
