import { CniError, ErrorCode } from "#cni/error.ts";
import { field, isJsonObject } from "#cni/json.ts";
import type { Call, Outcome, Plugin, Verb } from "#cni/plugin.ts";
import { fail, runVerb } from "#cni/skel.ts";
import { withAttachmentLock, withNetworkLock } from "#journal/attachment-lock.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { LockOptions } from "#machine/lock.ts";
import type { PluginHost } from "#plugins/context.ts";
import { isAttaching } from "./plugins.ts";

/** Kubernetes gives up after two minutes or more: the caller shall hear why. */
const lockTimeoutMs = 60_000;

export interface RunPluginOptions {
  /**
   * Whether somebody still waits for the outcome, asked with the locks held: before the verb, which is not begun
   * otherwise, and after an ADD, which is taken back otherwise.
   */
  readonly isWanted?: () => boolean;
}

/**
 * Runs one verb of a plugin as the outermost of its request. ADD, DEL and CHECK hold the attachment's lock and the
 * network's shared one, GC the network's alone, so that processes and the service never act on one attachment at
 * once. Never throws.
 */
export async function runPlugin(
  plugin: Plugin<PluginHost>,
  call: Call,
  host: PluginHost,
  options: RunPluginOptions = {},
): Promise<Outcome> {
  const subject = isAttaching(plugin) ? subjectOf(call) : undefined;
  if (!subject) return await runWanted(plugin, call, host, options);
  const lock: LockOptions = { timeoutMs: lockTimeoutMs, ...(call.signal ? { signal: call.signal } : {}) };
  const { run } = host.directories;
  const { verb, network, containerId, ifName } = subject;
  let started = false;
  const once = () => {
    started = true;
    crashPoint("locked");
    return runWanted(plugin, call, host, options);
  };
  try {
    if (containerId === undefined || ifName === undefined) {
      return await withNetworkLock(run, network, once, lock);
    }
    const key = { network, containerId, ifName };
    const locked = () => withNetworkLock(run, network, once, { ...lock, shared: true });
    return await withAttachmentLock(run, key, locked, lock);
  } catch (error) {
    // runVerb never throws, so this is about the lock. A DEL does what it can even where no lock can be had.
    if (!started && verb === "DEL" && isIoError(error)) return await runWanted(plugin, call, host, options);
    return fail(error);
  }
}

async function runWanted(
  plugin: Plugin<PluginHost>,
  call: Call,
  host: PluginHost,
  { isWanted = () => true }: RunPluginOptions,
): Promise<Outcome> {
  const verb = call.environment["CNI_COMMAND"];
  if (!isWanted()) return fail(unwanted(`${verb} was withdrawn before it began`));
  const outcome = await runVerb(plugin, call, host);
  if (verb !== "ADD" || outcome.exitCode !== 0 || isWanted()) return outcome;
  // The runtime will never learn of it, so it must not stay.
  const { signal: _, netns: __, ...rest } = call;
  const undone = await runVerb(
    plugin,
    { ...rest, environment: { ...call.environment, CNI_COMMAND: "DEL" } },
    host,
  );
  return fail(unwanted("ADD was withdrawn while it ran"), { stderr: [undone.stderr + undone.stdout] });
}

function unwanted(message: string): CniError {
  return new CniError(ErrorCode.TryAgainLater, message);
}

interface Subject {
  readonly verb: Extract<Verb, "ADD" | "DEL" | "CHECK" | "GC">;
  readonly network: string;
  /** Absent for a GC. */
  readonly containerId?: string;
  readonly ifName?: string;
}

/** What the call is about; undefined where it is about nothing that is locked, or is malformed, which runVerb reports. */
export function subjectOf(call: Call): Subject | undefined {
  const { CNI_COMMAND: verb, CNI_CONTAINERID: containerId, CNI_IFNAME: ifName } = call.environment;
  if (verb !== "ADD" && verb !== "DEL" && verb !== "CHECK" && verb !== "GC") return undefined;
  const json = call.json ?? jsonOf(call.stdin);
  const network = isJsonObject(json) ? field(json, "name") : undefined;
  if (typeof network !== "string" || network === "") return undefined;
  if (verb === "GC") return { verb, network };
  return containerId && ifName ? { verb, network, containerId, ifName } : undefined;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isIoError(error: unknown): boolean {
  return error instanceof Error && error.name === "IoError";
}
