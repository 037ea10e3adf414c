import type { CniResult } from "#cni/result.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { formatCidr } from "#net/cidr.ts";
import type { PluginHost } from "./context.ts";

/** A container has joined a network: its ADD is done. */
export function reportConnected(key: AttachmentKey, { interfaces, ips }: CniResult, host: PluginHost): void {
  const addresses = ips.map(({ address }) => formatCidr(address)).join(",");
  const mac = interfaces.find(({ name, sandbox }) => name === key.ifName && sandbox !== undefined)?.mac;
  const attributes = { ...(addresses ? { addresses } : {}), ...(mac ? { mac } : {}) };
  host.log.event({ type: "network", action: "connect", attributes }, { ...key });
}

/** A container has left a network: nothing of its attachment is left. */
export function reportDisconnected(key: AttachmentKey, host: PluginHost): void {
  host.log.event({ type: "network", action: "disconnect" }, { ...key });
}

/** Names that containers find by now, or no longer. @param names empty where they are not known */
export function reportNames(
  action: "publish" | "withdraw",
  key: AttachmentKey,
  names: readonly string[],
  host: PluginHost,
): void {
  const attributes: Readonly<Record<string, string>> = names.length > 0 ? { names: names.join(",") } : {};
  host.log.event({ type: "names", action, attributes }, { ...key });
}
