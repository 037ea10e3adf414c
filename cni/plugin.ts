import type { JsonObject } from "./json.ts";
import type { CniResult } from "./result.ts";
import type { CniVersion } from "./version.ts";

export type Verb = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS" | "VERSION";

/** Environment of one call: never `process.env`, so that one process can serve many calls at once. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What came in: the whole world of one verb. */
export interface Call {
  readonly environment: Environment;
  readonly stdin: string;
  /** What `JSON.parse(stdin)` gives, where somebody has parsed it already; undefined where nobody has, or it is no JSON. */
  readonly json?: unknown;
  /** What is at CNI_NETNS, where somebody has looked already within this call. */
  readonly netns?: NamespaceRef | undefined;
  /** Set when the caller has gone or a deadline has passed; checked before each side effect. */
  readonly signal?: AbortSignal;
}

/** What goes out. `stdout` is empty or one JSON object. */
export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A network namespace as the kernel knows it: device and inode of its nsfs file. */
export interface NamespaceIdentity {
  readonly dev: number;
  readonly ino: number;
}

export interface NamespaceRef extends NamespaceIdentity {
  /** As the runtime gave it in CNI_NETNS. */
  readonly path: string;
}

/** What the door itself needs to know of the host it acts on. */
export interface VerbHost {
  /** The network namespace in which host-side interfaces are made. */
  readonly hostNamespace: NamespaceIdentity;
  /** "missing" if nothing is there, "invalid" if it is no network namespace. */
  identifyNamespace(path: string): NamespaceIdentity | "missing" | "invalid";
}

/** The request configuration (stdin), as far as every plugin shares it. */
export interface NetworkConfig {
  readonly cniVersion: CniVersion;
  readonly name: string;
  readonly type: string;
  /** The whole object, keys as they were sent: read with `field()`, or parse with a schema of `cni/schema.ts`. */
  readonly json: JsonObject;
  readonly prevResult?: CniResult;
  /** `{}` if absent. */
  readonly runtimeConfig: JsonObject;
  /** `args.cni`; `{}` if absent. */
  readonly cniArgs: JsonObject;
}

interface Request {
  readonly config: NetworkConfig;
  readonly environment: Environment;
  /** Directories of CNI_PATH in order; may be empty. */
  readonly path: readonly string[];
  /** The complete request configuration, for delegation. */
  readonly stdin: string;
  readonly signal: AbortSignal;
  /** Gets what a delegate wrote on stderr, for the caller to see (SPEC.md, "Delegated plugin execution"). */
  readonly onStderr: (text: string) => void;
}

interface AttachmentRequest extends Request {
  readonly containerId: string;
  readonly ifName: string;
  /** CNI_ARGS in order, keys in their own case; already checked for form. */
  readonly args: readonly (readonly [key: string, value: string])[];
}

export interface AddRequest extends AttachmentRequest {
  readonly verb: "ADD";
  readonly netns: NamespaceRef;
}

export interface CheckRequest extends AttachmentRequest {
  readonly verb: "CHECK";
  readonly netns: NamespaceRef;
  readonly prevResult: CniResult;
}

export interface DelRequest extends AttachmentRequest {
  readonly verb: "DEL";
  /** Undefined if CNI_NETNS is empty or nothing is left at that path. */
  readonly netns?: NamespaceRef;
}

export interface GcRequest extends Request {
  readonly verb: "GC";
  /** Undefined if the runtime sent no list at all: then nothing is known to be stale. An empty list is a list. */
  readonly validAttachments?: readonly { readonly containerId: string; readonly ifName: string }[];
}

export interface StatusRequest extends Request {
  readonly verb: "STATUS";
}

export type AnyRequest = AddRequest | CheckRequest | DelRequest | GcRequest | StatusRequest;

/**
 * One plugin. A verb is a function of (request, host) without process globals. It throws `CniError`, or
 * anything else for code 999; `cni/skel.ts` has done the checks that the specification asks of every plugin.
 */
export interface Plugin<Host extends VerbHost> {
  readonly name: string;
  readonly versions: readonly CniVersion[];
  /**
   * How CNI_NETNS relates to the host's own namespace; "refused" gives code 8 before anything is touched. "unused" is
   * for IPAM plugins, which open no namespace: it need not be one, and then its identity is 0.
   */
  readonly hostNamespace: "refused" | "required" | "unused";
  add(request: AddRequest, host: Host): Promise<CniResult>;
  del(request: DelRequest, host: Host): Promise<void>;
  check(request: CheckRequest, host: Host): Promise<void>;
  gc(request: GcRequest, host: Host): Promise<void>;
  status(request: StatusRequest, host: Host): Promise<void>;
}
