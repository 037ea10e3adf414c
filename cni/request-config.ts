import type { NetworkList, PluginConf } from "./conflist.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import type { CniResult } from "./result.ts";
import { encodeResult } from "./result-versions.ts";

/** What a runtime adds to a plugin's configuration for one call. */
export interface RequestExtras {
  /** The result so far on ADD; the final one on CHECK, and on DEL from version 0.4.0 on. */
  readonly prevResult?: CniResult;
  /** What the runtime has for capabilities; a plugin gets those that it declares. */
  readonly capabilityArgs?: JsonObject;
  /** For GC. */
  readonly validAttachments?: readonly { readonly containerId: string; readonly ifName: string }[];
}

/**
 * The request configuration of one plugin of a list: its own object with name and version of the list and what
 * the call adds (SPEC.md 1.1.0, "Deriving request configuration from plugin configuration").
 * @throws {CniError} 7 if `prevResult` can't be expressed in the list's version
 */
export function requestConfig(list: NetworkList, plugin: PluginConf, extras: RequestExtras = {}): JsonObject {
  const added: Record<string, JsonValue> = { name: list.name, cniVersion: list.cniVersion };
  const runtimeConfig = Object.fromEntries(
    Object.entries(extras.capabilityArgs ?? {}).filter(([name]) => plugin.capabilities.includes(name)),
  );
  if (Object.keys(runtimeConfig).length > 0) added["runtimeConfig"] = runtimeConfig;
  if (extras.prevResult) added["prevResult"] = encodeResult(extras.prevResult, list.cniVersion);
  if (extras.validAttachments) {
    const attachments = extras.validAttachments.map(({ containerId, ifName }) => ({
      containerID: containerId,
      ifname: ifName,
    }));
    // Plugins of before 1.1.0 was final read the second key (cni#1101).
    added["cni.dev/valid-attachments"] = attachments;
    added["cni.dev/attachments"] = attachments;
  }
  const replaced = new Set(Object.keys(added).map((key) => key.toLowerCase()));
  const own = Object.entries(plugin.json).filter(([key]) => !replaced.has(key.toLowerCase()));
  return { ...Object.fromEntries(own), ...added };
}
