import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { newestVersion } from "#cni/version.ts";
import type { AttachmentKey, Json } from "#journal/record.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { Undo } from "#kernel/undo.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "./context.ts";
import { recordedConfig } from "./repeated-add.ts";

/**
 * What the ADDs of chained plugins have in common: they work on what the plugins before them have made, and take back
 * what they have done where something fails.
 */

export function keyOf({ config, containerId, ifName }: AddRequest): AttachmentKey {
  return { network: config.name, containerId, ifName };
}

/**
 * @param plugin its name
 * @param message the words of the reference's plugin of that name
 * @throws {CniError} 7 where the plugin is the first in the list
 */
export function requirePrevResult({ config }: AddRequest, plugin: string, message: string): CniResult {
  if (config.prevResult) return config.prevResult;
  throw new CniError(ErrorCode.InvalidNetworkConfig, message, {
    details: `${plugin} is a chained plugin: it needs a prevResult, of the plugins before it in the list`,
  });
}

/** The interface that CNI_IFNAME names. @throws {CniError} 4 */
export function requireInterface(namespace: NetworkNamespace, ifName: string): Link {
  return readLink(namespace, parseIfName(ifName)) ?? refuseMissing(namespace, ifName);
}

/** @throws {CniError} 4 */
export function refuseMissing(namespace: NetworkNamespace, ifName: string): never {
  throw new CniError(
    ErrorCode.InvalidEnvironment,
    `Cannot find interface ${JSON.stringify(ifName)} of CNI_IFNAME in ${namespace.path}`,
  );
}

/**
 * The intent on disk, the work, completion. A failure takes back what the work has pushed on `undo`, and the record with
 * it; what can't be taken back keeps its record, for the next DEL or GC.
 * @param intent.made enough to undo all of the work
 * @param intent.result what the record keeps as the attachment's
 */
export async function recordedWork<Value>(
  request: AddRequest,
  host: PluginHost,
  intent: { readonly plugin: string; readonly made: Json; readonly result: CniResult },
  work: (undo: Undo) => Value | Promise<Value>,
): Promise<Value> {
  const { plugin, made, result } = intent;
  const { netns, args } = request;
  return await Undo.run(async (undo) => {
    // What is made does not outlive a power loss, nor need its record: decision 6.
    const entry = await host.journal.begin(
      { key: keyOf(request), plugin, netns, config: recordedConfig(request), args, made },
      { durable: false },
    );
    undo.push("journal record", (failures) => {
      if (failures.length === 0) entry.remove();
    });
    request.signal.throwIfAborted();
    const value = await work(undo);
    entry.complete(encodeResult(result, newestVersion));
    return value;
  });
}
