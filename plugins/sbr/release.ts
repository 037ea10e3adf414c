import type { NamespaceRef } from "#cni/plugin.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { readLink } from "#kernel/link.ts";
import { parseIfName } from "#net/ifname.ts";
import { openAttachmentNamespace } from "#plugins/attachment-namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { decodeMade } from "./made.ts";
import { revert } from "./realise.ts";

/**
 * Takes back what an attachment has made, then its record. What is gone already is fine, its namespace included.
 * @param given CNI_NETNS
 * @returns false if there was no record
 */
export function releaseAttachment(key: AttachmentKey, host: PluginHost, given?: NamespaceRef): boolean {
  const record = host.journal.read(key, "sbr");
  if (!record) return false;
  const made = decodeMade(record);
  if (record.phase === "done") host.journal.leave(key, "sbr");
  using namespace = made && openAttachmentNamespace(host, record, given);
  if (made && namespace) {
    const isLinkThere = readLink(namespace, parseIfName(key.ifName))?.ifindex === made.ifindex;
    revert(namespace, made, { isLinkThere });
  }
  host.journal.remove(key, "sbr");
  return true;
}
