import { type CniEnvironment, readEnvironment } from "./environment.ts";
import { CniError, ErrorCode } from "./error.ts";
import { describeCauses, messageOf } from "./error-causes.ts";
import { field, type JsonObject } from "./json.ts";
import { parseStdin, readNetworkConfig } from "./network-config.ts";
import type { Call, NamespaceRef, Outcome, Plugin, VerbHost } from "./plugin.ts";
import {
  addRequest,
  checkRequest,
  delRequest,
  gcRequest,
  type RequestSource,
  statusRequest,
} from "./request.ts";
import { encodeResult } from "./result-versions.ts";
import { type CniVersion, isCniVersion, newestVersion } from "./version.ts";

export interface RunVerbOptions {
  /** Of the suite, for the line that a plugin prints when it is called without CNI_COMMAND. */
  readonly suiteVersion?: string;
}

/**
 * The door of a plugin: does the checks that the specification asks of every plugin, then calls the verb. Never
 * throws: whatever is thrown below becomes one JSON error object on stdout and exit code 1.
 *
 * Order: environment, stdin, version, namespace. Nothing is touched before all of them hold.
 */
export async function runVerb<Host extends VerbHost>(
  plugin: Plugin<Host>,
  call: Call,
  host: Host,
  options: RunVerbOptions = {},
): Promise<Outcome> {
  const stderr: string[] = [];
  if (!call.environment["CNI_COMMAND"]) return about(plugin, options);
  let version: CniVersion = newestVersion;
  try {
    const environment = readEnvironment(call.environment);
    if (environment.verb === "VERSION") return succeed(versionReport(plugin, call.stdin), stderr);
    const json = parseStdin(call.stdin, call.json);
    version = knownVersion(json);
    const config = readNetworkConfig(json, environment.verb, plugin.versions, (line) => stderr.push(line));
    const signal = call.signal ?? neverAborted;
    if (signal.aborted) {
      throw new CniError(ErrorCode.TryAgainLater, `${environment.verb} was cancelled before it began`);
    }
    const onStderr = (text: string) => void stderr.push(text.replace(/\n$/, ""));
    return succeed(await callVerb(plugin, { call, environment, config, signal, onStderr }, host), stderr);
  } catch (thrown) {
    return fail(thrown, { version, stderr });
  }
}

/** For calls that nobody can withdraw. */
const neverAborted = new AbortController().signal;

/** @returns what to print */
async function callVerb<Host extends VerbHost>(
  plugin: Plugin<Host>,
  source: RequestSource,
  host: Host,
): Promise<string> {
  const { environment } = source;
  switch (environment.verb) {
    case "ADD":
      return await add(plugin, source, host);
    case "CHECK":
      await plugin.check(checkRequest(source, openNamespace(plugin, source, host)), host);
      return "";
    case "DEL":
      await del(plugin, source, host);
      return "";
    case "GC":
      await plugin.gc(gcRequest(source), host);
      return "";
    case "STATUS":
      await plugin.status(statusRequest(source), host);
      return "";
    case "VERSION":
      return versionReport(plugin, source.call.stdin);
  }
}

async function add<Host extends VerbHost>(
  plugin: Plugin<Host>,
  source: RequestSource,
  host: Host,
): Promise<string> {
  const netns = openNamespace(plugin, source, host);
  const result = await plugin.add(addRequest(source, netns), host);
  try {
    return print(encodeResult(result, source.config.cniVersion));
  } catch (error) {
    // The runtime will never learn of what was made, so it must not stay.
    const undoErrors = await plugin.del(delRequest(source, netns), host).then(
      () => [],
      (undoError: unknown) => [undoError],
    );
    if (undoErrors.length > 0) {
      throw new AggregateError([error, ...undoErrors], messageOf(error), { cause: error });
    }
    throw error;
  }
}

/**
 * A runtime may hand in the host's own namespace for a container that is gone, as /proc/PID/ns/net does once the
 * PID belongs to another process. What is recorded for the attachment is then removed without that namespace,
 * where a name could be one of the host's, before the call is refused as the reference refuses it.
 */
async function del<Host extends VerbHost>(
  plugin: Plugin<Host>,
  source: RequestSource,
  host: Host,
): Promise<void> {
  const { netns: path } = source.environment;
  const identity = path === "" ? "missing" : identify(path, source, host);
  const netns = typeof identity === "string" ? undefined : { path, ...identity };
  if (netns && plugin.hostNamespace === "refused" && isRefused(netns, source.environment, host)) {
    await plugin.del(delRequest(source, undefined), host);
    throw sameNamespace(path);
  }
  await plugin.del(delRequest(source, netns), host);
}

/** What is at CNI_NETNS; a plugin that delegates has looked. */
function identify(path: string, { call }: RequestSource, host: VerbHost) {
  const { netns } = call;
  return netns?.path === path ? { dev: netns.dev, ino: netns.ino } : host.identifyNamespace(path);
}

/** @throws {CniError} 8 */
function openNamespace<Host extends VerbHost>(
  plugin: Plugin<Host>,
  source: RequestSource,
  host: Host,
): NamespaceRef {
  const { environment } = source;
  const path = environment.netns;
  const identity = identify(path, source, host);
  if (plugin.hostNamespace === "unused") {
    return { path, ...(typeof identity === "string" ? { dev: 0, ino: 0 } : identity) };
  }
  if (identity === "missing") {
    throw new CniError(
      ErrorCode.InvalidNamespace,
      `Cannot open network namespace ${JSON.stringify(path)} of CNI_NETNS: no such file`,
    );
  }
  if (identity === "invalid") {
    throw new CniError(
      ErrorCode.InvalidNamespace,
      `Cannot open network namespace ${JSON.stringify(path)} of CNI_NETNS: not a network namespace`,
    );
  }
  const netns = { path, ...identity };
  if (plugin.hostNamespace === "refused" && isRefused(netns, environment, host)) throw sameNamespace(path);
  if (plugin.hostNamespace === "required" && !isHosts(netns, host)) {
    throw new CniError(
      ErrorCode.InvalidNamespace,
      `Cannot attach ${JSON.stringify(path)}: ${plugin.name} works in the host's network namespace only`,
    );
  }
  return netns;
}

function isHosts(netns: NamespaceRef, host: VerbHost): boolean {
  return netns.dev === host.hostNamespace.dev && netns.ino === host.hostNamespace.ino;
}

function isRefused(netns: NamespaceRef, environment: CniEnvironment, host: VerbHost): boolean {
  return !environment.isNetnsOverridden && isHosts(netns, host);
}

function sameNamespace(path: string): CniError {
  return new CniError(
    ErrorCode.InvalidNamespace,
    "plugin's netns and netns from CNI_NETNS should not be the same",
    { details: `CNI_NETNS is ${JSON.stringify(path)}` },
  );
}

function about(plugin: Plugin<never>, options: RunVerbOptions): Outcome {
  const name = `CNI ${plugin.name} plugin${options.suiteVersion ? ` ${options.suiteVersion}` : ""}`;
  const versions = `CNI protocol versions supported: ${plugin.versions.join(", ")}`;
  return { exitCode: 0, stdout: "", stderr: `${name}\n${versions}\n` };
}

/** Echoes the caller's version, as the specification asks, if there is one that it could use. */
function versionReport(plugin: Plugin<never>, stdin: string): string {
  return print({ cniVersion: versionAsked(stdin), supportedVersions: plugin.versions });
}

function versionAsked(stdin: string): CniVersion {
  try {
    return knownVersion(parseStdin(stdin));
  } catch {
    // A VERSION without stdin is answered too.
    return newestVersion;
  }
}

function knownVersion(json: JsonObject): CniVersion {
  const version = field(json, "cniVersion");
  return typeof version === "string" && isCniVersion(version) ? version : newestVersion;
}

function succeed(stdout: string, stderr: readonly string[]): Outcome {
  return { exitCode: 0, stdout, stderr: lines(stderr) };
}

/**
 * The outcome of a call that ended with `thrown`. For whoever has to report a fault outside of `runVerb`, such as
 * an uncaught exception.
 */
export function fail(
  thrown: unknown,
  context: { readonly version?: CniVersion; readonly stderr?: readonly string[] } = {},
): Outcome {
  const cniVersion = context.version ?? newestVersion;
  const stderr = context.stderr ?? [];
  try {
    const error = CniError.from(thrown);
    // What nobody expected is a fault of ours: where it happened belongs in the log.
    const isFault = error !== thrown && error.code === ErrorCode.Internal && thrown instanceof Error;
    const stack = isFault ? [String(thrown.stack)] : [];
    return {
      exitCode: 1,
      stdout: print(errorObject(error, cniVersion)),
      stderr: lines([...stderr, ...stack]),
    };
  } catch {
    // Anything can be thrown, even an object that throws when it is looked at.
    const json = { cniVersion, code: ErrorCode.Internal, msg: messageOf(thrown) };
    return { exitCode: 1, stdout: print(json), stderr: lines(stderr) };
  }
}

function errorObject(error: CniError, cniVersion: CniVersion): JsonObject {
  const details = [error.details, ...describeCauses(error)].filter((part) => part !== "").join("; ");
  return {
    cniVersion,
    code: Number.isSafeInteger(error.code) && error.code > 0 ? error.code : ErrorCode.Internal,
    msg: error.message || "unknown error",
    ...(details ? { details } : {}),
  };
}

function print(json: JsonObject): string {
  return JSON.stringify(json, undefined, 4);
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}
