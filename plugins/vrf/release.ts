import type { NamespaceRef } from "#cni/plugin.ts";
import { withNamespaceLock } from "#journal/attachment-lock.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { readLink, removeLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readVrf, release, vrfPorts } from "#kernel/vrf.ts";
import { openAttachmentNamespace } from "#plugins/attachment-namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { decodeMade, type Made, ownAlias } from "./made.ts";

const lockTimeoutMs = 10_000;

/**
 * Takes an attachment's interface out of its VRF, the VRF away if that was its last one, then the record. What is gone
 * already is fine, the namespace included.
 * @param given CNI_NETNS
 * @param guess where there is no record
 */
export async function releaseAttachment(
  key: AttachmentKey,
  host: PluginHost,
  given?: NamespaceRef,
  guess?: (namespace: NetworkNamespace) => Made | undefined,
): Promise<void> {
  const record = host.journal.read(key, "vrf");
  if (!record && !guess) return;
  if (record?.phase === "done") host.journal.leave(key, "vrf");
  using namespace = openAttachmentNamespace(host, record, given);
  if (namespace) {
    await withNamespaceLock(
      host.directories.run,
      namespace,
      async () => {
        const made = record ? decodeMade(record) : guess?.(namespace);
        if (made) await leaveVrf(namespace, made, { anyVrf: !record });
      },
      { timeoutMs: lockTimeoutMs },
    );
  }
  if (record) host.journal.remove(key, "vrf");
}

/** @param options.anyVrf also a VRF that this plugin has not made is removed with its last interface */
export async function leaveVrf(
  namespace: NetworkNamespace,
  { vrf: name, ifindex }: Made,
  { anyVrf = false }: { readonly anyVrf?: boolean } = {},
): Promise<void> {
  const vrf = readVrf(namespace, name);
  if (!vrf || vrf === "other") return;
  const link = readLink(namespace, ifindex);
  if (link?.master === vrf.ifindex) release(namespace, link, vrf);
  const isOurs = anyVrf || vrf.alias === ownAlias;
  if (isOurs && vrfPorts(namespace, vrf).length === 0) await removeLink(namespace, vrf.ifindex);
}
