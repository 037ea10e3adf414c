import type { NetworkList } from "#cni/conflist.ts";
import { type CniResult, emptyResult } from "#cni/result.ts";
import { decodeResult, encodeResult } from "#cni/result-versions.ts";
import { atLeast } from "#cni/version.ts";
import { type AttachmentKey, CacheDamage, type CachedAttachment, type ResultCache } from "./cache.ts";
import {
  attachByPlugins,
  type ChainOutcome,
  type ChainPluginsHost,
  checkByPlugins,
  collectByPlugins,
  detachByPlugins,
  type LiveAttachment,
  statusByPlugins,
} from "./chain-plugins.ts";
import type { ChainCall, ChainService } from "./chain-service.ts";
import { type AttachmentTarget, requireExecutables } from "./plugin-call.ts";

/** What running a chain needs beside the chain. */
export interface ChainHost extends ChainPluginsHost {
  readonly cache: ResultCache;
  /** Asked before the plugins are run one by one. */
  readonly service?: ChainService;
}

/** Several plugins failed, or one: each as its own error in `errors`. */
export class ChainFailure extends AggregateError {
  override readonly name = "ChainFailure";

  constructor(action: string, errors: readonly unknown[], cause?: unknown) {
    const messages = errors.map((error) => (error instanceof Error ? error.message : String(error)));
    super(errors, `${action}: ${messages.join("; ")}`, cause === undefined ? undefined : { cause });
  }
}

/**
 * Attaches a container: ADD of every plugin in order, each given the result of the one before. If one fails, DEL
 * of the whole chain is run before the error is thrown, so that nothing is left.
 * @returns the result of the last plugin; it is cached for CHECK, DEL and GC
 * @throws {ChainFailure} the plugin that failed, then whatever failed in taking back; nothing is taken back where
 * the container is attached already, or where an executable is missing, because nothing was done
 */
export async function addNetworkList(
  list: NetworkList,
  target: AttachmentTarget,
  host: ChainHost,
): Promise<CniResult> {
  const action = `Cannot attach ${target.ifName} to network "${list.name}"`;
  const key = { network: list.name, containerId: target.containerId, ifName: target.ifName };
  try {
    if (await isCached(key, host.cache))
      throw new Error(`container ${target.containerId} is attached already`);
    requireExecutables(list, host);
  } catch (error) {
    throw new ChainFailure(action, [error], error);
  }
  const { result, errors } = await runPlugins({ verb: "ADD", list, target }, host);
  if (result === undefined) throw new ChainFailure(action, errors, errors[0]);
  try {
    const cached = encodeResult(result, list.cniVersion);
    await host.cache.write({
      ...key,
      ...withoutKey(target),
      config: JSON.stringify(list.json),
      result: cached,
    });
    return result;
  } catch (error) {
    const undone = await runPlugins({ verb: "DEL", list, target }, host);
    const failedUndo = [...undone.errors];
    await host.cache.remove(key).catch((failure: unknown) => failedUndo.push(failure));
    throw new ChainFailure(action, [error, ...failedUndo], error);
  }
}

/**
 * Detaches a container: DEL of every plugin in reverse order, with the cached result. Unlike libcni it goes on
 * past a plugin that fails, because whatever the others hold would leak. The cached result stays until all
 * succeeded, so that this can be repeated.
 * @throws {ChainFailure} every plugin that failed
 */
export async function delNetworkList(
  list: NetworkList,
  target: AttachmentTarget,
  host: ChainHost,
): Promise<void> {
  const key = { network: list.name, containerId: target.containerId, ifName: target.ifName };
  const prevResult = await prevResultForDel(list, key, host.cache);
  const { errors } = await runPlugins({ verb: "DEL", list, target, prevResult }, host);
  if (errors.length > 0)
    throw new ChainFailure(`Cannot detach ${target.ifName} from network "${list.name}"`, errors);
  await host.cache.remove(key);
}

/**
 * Asks every plugin whether the attachment is as its ADD left it. Does nothing where the network forbids it.
 * @throws {ChainFailure} the first plugin that found a difference, a missing or damaged cached result, or a
 * network older than 0.4.0
 */
export async function checkNetworkList(
  list: NetworkList,
  target: AttachmentTarget,
  host: ChainHost,
  expected: (result: CniResult) => CniResult = (result) => result,
): Promise<void> {
  if (list.disableCheck) return;
  try {
    if (!atLeast(list.cniVersion, "0.4.0")) {
      throw new RangeError(`version ${list.cniVersion} has no CHECK, 0.4.0 is the first that has`);
    }
    const cached = await host.cache.read({
      network: list.name,
      containerId: target.containerId,
      ifName: target.ifName,
    });
    if (cached === undefined) throw new Error("no result of its ADD is cached");
    const prevResult = expected(decodeResult(cached.result, list.cniVersion, "cached result"));
    requireExecutables(list, host);
    const [failure] = (await runPlugins({ verb: "CHECK", list, target, prevResult }, host)).errors;
    if (failure !== undefined) throw failure;
  } catch (error) {
    throw new ChainFailure(`Cannot vouch for ${target.ifName} on network "${list.name}"`, [error], error);
  }
}

/**
 * Clears away every attachment of the network that is not in `valid`: DEL for those in the cache, then GC of
 * every plugin for what the cache does not know. Goes on past errors. Does nothing where the network forbids it.
 * @param valid all attachments that live; empty for a network that is to go
 * @throws {ChainFailure} all that failed
 */
export async function gcNetworkList(
  list: NetworkList,
  valid: readonly LiveAttachment[],
  host: ChainHost,
): Promise<void> {
  if (list.disableGc) return;
  const alive = new Set(valid.map(({ containerId, ifName }) => `${containerId}/${ifName}`));
  const errors: unknown[] = [];
  for (const cached of await host.cache.list(list.name)) {
    if (alive.has(`${cached.containerId}/${cached.ifName}`)) continue;
    await delNetworkList(list, targetOf(cached), host).catch((error: unknown) => errors.push(error));
  }
  if (atLeast(list.cniVersion, "1.1.0")) {
    const collected = await runPlugins({ verb: "GC", list, valid }, host);
    errors.push(...collected.errors);
  }
  if (errors.length > 0)
    throw new ChainFailure(`Cannot clear away stale attachments of network "${list.name}"`, errors);
}

/**
 * Asks every plugin whether it could serve an ADD now. Networks older than 1.1.0 have no such question.
 * @throws {ChainFailure} the first plugin that could not
 */
export async function statusNetworkList(list: NetworkList, host: ChainHost): Promise<void> {
  if (!atLeast(list.cniVersion, "1.1.0")) return;
  try {
    requireExecutables(list, host);
    const [failure] = (await runPlugins({ verb: "STATUS", list }, host)).errors;
    if (failure !== undefined) throw failure;
  } catch (error) {
    throw new ChainFailure(`Network "${list.name}" is not ready`, [error], error);
  }
}

/** The target of a cached attachment, for a DEL or CHECK by somebody who did not ADD it. */
export function targetOf(cached: CachedAttachment): AttachmentTarget {
  const { containerId, ifName, netns, args, capabilityArgs } = cached;
  return { containerId, ifName, netns, args, capabilityArgs };
}

function withoutKey({
  netns,
  args,
  capabilityArgs,
}: AttachmentTarget): Pick<AttachmentTarget, "netns" | "args" | "capabilityArgs"> {
  return { netns, args, capabilityArgs };
}

/** A damaged file counts as well: whatever it was, its attachment has not been taken away. */
async function isCached(key: AttachmentKey, cache: ResultCache): Promise<boolean> {
  try {
    return (await cache.read(key)) !== undefined;
  } catch (error) {
    if (error instanceof CacheDamage) return true;
    throw error;
  }
}

/** In one request where there is a service, and else plugin by plugin. */
async function runPlugins(call: ChainCall, host: ChainHost): Promise<ChainOutcome> {
  const served = await runByService(call, host);
  if (served) return served;
  const { list } = call;
  switch (call.verb) {
    case "ADD":
      return await attachByPlugins(list, call.target, host);
    case "DEL":
      return await detachByPlugins(list, call.target, host, call.prevResult);
    case "CHECK":
      return await checkByPlugins(list, call.target, host, call.prevResult ?? emptyResult);
    case "GC":
      return await collectByPlugins(list, call.valid, host);
    case "STATUS":
      return await statusByPlugins(list, host);
  }
}

async function runByService(call: ChainCall, host: ChainHost): Promise<ChainOutcome | undefined> {
  try {
    // As where the plugins are run one by one, nothing stops a DEL or a GC.
    const isStopped = call.verb !== "DEL" && call.verb !== "GC";
    return await host.service?.run(call, host, isStopped ? host.signal : undefined);
  } catch (error) {
    return { errors: [error] };
  }
}

/** Below 0.4.0 DEL has none. A damaged one is as good as none: DEL has to work without it. */
async function prevResultForDel(
  list: NetworkList,
  key: AttachmentKey,
  cache: ResultCache,
): Promise<CniResult | undefined> {
  if (!atLeast(list.cniVersion, "0.4.0")) return undefined;
  try {
    const cached = await cache.read(key);
    return cached === undefined ? undefined : decodeResult(cached.result, list.cniVersion, "cached result");
  } catch {
    return undefined;
  }
}
