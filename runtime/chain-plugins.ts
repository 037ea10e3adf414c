import type { NetworkList } from "#cni/conflist.ts";
import { type CniResult, emptyResult } from "#cni/result.ts";
import { decodeResult } from "#cni/result-versions.ts";
import { type AttachmentTarget, callPlugin, PluginFailure, type PluginHost } from "./plugin-call.ts";

/** Runs the plugins of a chain, and takes back what an ADD that failed has left. */

export interface ChainPluginsHost extends PluginHost {
  /** Stops an ADD or a CHECK between and within plugins; what was done is taken back in peace. */
  readonly signal?: AbortSignal;
}

/** An attachment that GC leaves alone. */
export interface LiveAttachment {
  readonly containerId: string;
  readonly ifName: string;
}

/** What became of one verb of a chain. */
export interface ChainOutcome {
  /** Of an ADD that has succeeded: that of the last plugin. */
  readonly result?: CniResult;
  /** Of an ADD, the one that ended it and then those of taking back; of a DEL and a GC, all of them. Empty for success. */
  readonly errors: readonly unknown[];
}

/** ADD of every plugin in order, each given the result of the one before; DEL of all of them where one fails. */
export async function attachByPlugins(
  list: NetworkList,
  target: AttachmentTarget,
  host: ChainPluginsHost,
): Promise<ChainOutcome> {
  try {
    return { result: await addPlugins(list, target, host), errors: [] };
  } catch (error) {
    const { errors } = await detachByPlugins(list, target, host, undefined);
    return { errors: [error, ...errors] };
  }
}

async function addPlugins(
  list: NetworkList,
  target: AttachmentTarget,
  host: ChainPluginsHost,
): Promise<CniResult> {
  let result: CniResult | undefined;
  for (const plugin of list.plugins) {
    const extras = {
      capabilityArgs: target.capabilityArgs,
      ...(result === undefined ? {} : { prevResult: result }),
    };
    const reply = await callPlugin("ADD", list, plugin, extras, host, target, host.signal);
    try {
      result = decodeResult(reply ?? {}, list.cniVersion);
    } catch (error) {
      throw new PluginFailure(plugin.type, "ADD", error);
    }
  }
  return result ?? emptyResult;
}

/** DEL of all plugins in reverse order, past those that fail. Not given the signal: half a DEL helps nobody. */
export async function detachByPlugins(
  list: NetworkList,
  target: AttachmentTarget,
  host: PluginHost,
  prevResult: CniResult | undefined,
): Promise<ChainOutcome> {
  const errors: unknown[] = [];
  const extras = {
    capabilityArgs: target.capabilityArgs,
    ...(prevResult === undefined ? {} : { prevResult }),
  };
  for (const plugin of [...list.plugins].reverse()) {
    await callPlugin("DEL", list, plugin, extras, host, target).catch((error: unknown) => errors.push(error));
  }
  return { errors };
}

/** CHECK of every plugin in order, up to the first that finds a difference. */
export async function checkByPlugins(
  list: NetworkList,
  target: AttachmentTarget,
  host: ChainPluginsHost,
  prevResult: CniResult,
): Promise<ChainOutcome> {
  const extras = { prevResult, capabilityArgs: target.capabilityArgs };
  try {
    for (const plugin of list.plugins)
      await callPlugin("CHECK", list, plugin, extras, host, target, host.signal);
    return { errors: [] };
  } catch (error) {
    return { errors: [error] };
  }
}

/** GC of all plugins, past those that fail. */
export async function collectByPlugins(
  list: NetworkList,
  valid: readonly LiveAttachment[],
  host: PluginHost,
): Promise<ChainOutcome> {
  const errors: unknown[] = [];
  for (const plugin of list.plugins) {
    await callPlugin("GC", list, plugin, { validAttachments: valid }, host).catch((error: unknown) =>
      errors.push(error),
    );
  }
  return { errors };
}

/** STATUS of every plugin in order, up to the first that could not serve an ADD. */
export async function statusByPlugins(list: NetworkList, host: ChainPluginsHost): Promise<ChainOutcome> {
  try {
    for (const plugin of list.plugins)
      await callPlugin("STATUS", list, plugin, {}, host, undefined, host.signal);
    return { errors: [] };
  } catch (error) {
    return { errors: [error] };
  }
}
