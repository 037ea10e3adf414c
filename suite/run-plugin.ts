import { field, isJsonObject } from "#cni/json.ts";
import type { Call, Outcome, Plugin } from "#cni/plugin.ts";
import { fail, runVerb } from "#cni/skel.ts";
import { withAttachmentLock, withNetworkLock } from "#journal/attachment-lock.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { LockOptions } from "#machine/lock.ts";
import type { PluginHost } from "#plugins/context.ts";
import { isAttaching } from "./plugins.ts";

/** Kubernetes gives up after two minutes or more: the caller shall hear why. */
const lockTimeoutMs = 60_000;

/**
 * Runs one verb of a plugin as the outermost of its request. ADD, DEL and CHECK hold the attachment's lock and the
 * network's shared one, GC the network's alone, so that processes and the service never act on one attachment at
 * once. Never throws.
 */
export async function runPlugin(plugin: Plugin<PluginHost>, call: Call, host: PluginHost): Promise<Outcome> {
  const work = () => runVerb(plugin, call, host);
  const subject = isAttaching(plugin) ? subjectOf(call) : undefined;
  if (!subject) return await work();
  const options: LockOptions = { timeoutMs: lockTimeoutMs, ...(call.signal ? { signal: call.signal } : {}) };
  const { run } = host.directories;
  const { network, containerId, ifName } = subject;
  let started = false;
  const once = () => {
    started = true;
    crashPoint("locked");
    return work();
  };
  try {
    if (containerId === undefined || ifName === undefined) {
      return await withNetworkLock(run, network, once, options);
    }
    const key = { network, containerId, ifName };
    const locked = () => withNetworkLock(run, network, once, { ...options, shared: true });
    return await withAttachmentLock(run, key, locked, options);
  } catch (error) {
    // runVerb never throws, so this is about the lock. A DEL does what it can even where no lock can be had.
    if (!started && call.environment["CNI_COMMAND"] === "DEL" && isIoError(error)) return await work();
    return fail(error);
  }
}

interface Subject {
  readonly network: string;
  /** Absent for a GC. */
  readonly containerId?: string;
  readonly ifName?: string;
}

/** What the call is about; undefined where it is about nothing that is locked, or is malformed, which runVerb reports. */
export function subjectOf(call: Call): Subject | undefined {
  const { CNI_COMMAND: verb, CNI_CONTAINERID: containerId, CNI_IFNAME: ifName } = call.environment;
  if (verb !== "ADD" && verb !== "DEL" && verb !== "CHECK" && verb !== "GC") return undefined;
  let network: unknown;
  try {
    const json: unknown = JSON.parse(call.stdin);
    network = isJsonObject(json) ? field(json, "name") : undefined;
  } catch {
    return undefined;
  }
  if (typeof network !== "string" || network === "") return undefined;
  if (verb === "GC") return { network };
  return containerId && ifName ? { network, containerId, ifName } : undefined;
}

function isIoError(error: unknown): boolean {
  return error instanceof Error && error.name === "IoError";
}
