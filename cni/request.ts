import * as v from "valibot";
import { parseCniArgs, salvageCniArgs } from "./cni-args.ts";
import type { CniEnvironment } from "./environment.ts";
import { CniError, ErrorCode } from "./error.ts";
import { field, type JsonObject } from "./json.ts";
import type {
  AddRequest,
  Call,
  CheckRequest,
  DelRequest,
  GcRequest,
  NamespaceRef,
  NetworkConfig,
  StatusRequest,
} from "./plugin.ts";
import { goObject, parseConfig } from "./schema.ts";

/** What all requests are made of. */
export interface RequestSource {
  readonly call: Call;
  readonly environment: CniEnvironment;
  readonly config: NetworkConfig;
  readonly signal: AbortSignal;
  readonly onStderr: (text: string) => void;
}

function shared({ call, environment, config, signal, onStderr }: RequestSource) {
  return {
    config,
    environment: call.environment,
    path: environment.path,
    stdin: call.stdin,
    signal,
    onStderr,
  };
}

/** @throws {CniError} 4 for malformed CNI_ARGS */
export function addRequest(source: RequestSource, netns: NamespaceRef): AddRequest {
  const { containerId, ifName, args } = source.environment;
  return { verb: "ADD", ...shared(source), containerId, ifName, netns, args: parseCniArgs(args) };
}

/** @throws {CniError} 4 for malformed CNI_ARGS, 7 without prevResult */
export function checkRequest(source: RequestSource, netns: NamespaceRef): CheckRequest {
  const { containerId, ifName, args } = source.environment;
  const { prevResult } = source.config;
  if (!prevResult) throw new CniError(ErrorCode.InvalidNetworkConfig, "Required prevResult missing");
  return {
    verb: "CHECK",
    ...shared(source),
    containerId,
    ifName,
    netns,
    prevResult,
    args: parseCniArgs(args),
  };
}

/** Malformed pairs of CNI_ARGS are left out: DEL goes on with what it can know. */
export function delRequest(source: RequestSource, netns: NamespaceRef | undefined): DelRequest {
  const { containerId, ifName, args } = source.environment;
  return {
    verb: "DEL",
    ...shared(source),
    containerId,
    ifName,
    args: salvageCniArgs(args),
    ...(netns ? { netns } : {}),
  };
}

/** @throws {CniError} 7 for a malformed list: what it does not name would be deleted */
export function gcRequest(source: RequestSource): GcRequest {
  const validAttachments = readValidAttachments(source.config.json);
  return { verb: "GC", ...shared(source), ...(validAttachments ? { validAttachments } : {}) };
}

export function statusRequest(source: RequestSource): StatusRequest {
  return { verb: "STATUS", ...shared(source) };
}

const attachments = v.array(goObject({ containerID: v.string(), ifname: v.string() }));

/** SPEC.md says `cni.dev/valid-attachments`; libcni up to 1.2 sent the other key, and sends both since (cni#1101). */
const attachmentKeys = ["cni.dev/valid-attachments", "cni.dev/attachments"] as const;

function readValidAttachments(json: JsonObject): GcRequest["validAttachments"] {
  for (const key of attachmentKeys) {
    const list = field(json, key);
    if (list === undefined) continue;
    return parseConfig(attachments, list, { what: key }).map(({ containerID, ifname }) => ({
      containerId: containerID,
      ifName: ifname,
    }));
  }
  return undefined;
}
