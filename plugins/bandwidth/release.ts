import type { NamespaceRef } from "#cni/plugin.ts";
import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import { readLink, removeLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { removeRedirection, removeShape } from "#kernel/shaping.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { IfName } from "#net/ifname.ts";
import { openAttachmentNamespace } from "#plugins/attachment-namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { decodeMade, type Made } from "./made.ts";
import { ifbNames } from "./names.ts";

/**
 * Takes away what an attachment has made, then its record. What is gone already is fine.
 * @param given CNI_NETNS
 */
export async function releaseAttachment(
  key: AttachmentKey,
  host: PluginHost,
  given?: NamespaceRef,
): Promise<void> {
  const record = host.journal.read(key, "bandwidth");
  const made = decodeMade(record);
  if (record?.phase === "done") host.journal.leave(key, "bandwidth");
  if (!made) await removeUnrecorded(key, host);
  else if (made.place === "host") await removeOnHost(record, made, host);
  else {
    using namespace = openAttachmentNamespace(host, record, given);
    if (namespace) await removeMade(namespace, made);
  }
  if (record) host.journal.remove(key, "bandwidth");
}

async function removeOnHost(record: JournalRecord | undefined, made: Made, host: PluginHost): Promise<void> {
  // After a reboot its numbers and names are others'.
  if (record && record.phase !== "torn" && record.bootId === host.bootId) {
    await removeMade(host.kernel.namespace, made);
  }
}

/** What is not there any more, or has become another's, is passed over. */
export async function removeMade(
  namespace: NetworkNamespace,
  { device, ifindex, leaving, arriving }: Made,
): Promise<void> {
  if (readLink(namespace, ifindex)?.name === device) {
    if (leaving) removeShape(namespace, ifindex);
    crashPoint("shape-removed");
    if (arriving) {
      removeRedirection(namespace, ifindex, { withQdisc: arriving.ownsQdisc, count: arriving.filters });
    }
    crashPoint("redirection-removed");
  }
  if (arriving) await removeIfb(namespace, arriving.ifb);
}

async function removeIfb(namespace: NetworkNamespace, name: IfName): Promise<void> {
  if (readLink(namespace, name)?.kind === "ifb") await removeLink(namespace, name);
}

/**
 * Without a record, as after the loss of the journal, or of a container that the reference plugin has attached: the link
 * is known by its name, unless that is in use for the container's other interface.
 */
async function removeUnrecorded(key: AttachmentKey, host: PluginHost): Promise<void> {
  const others = host.journal
    .listOfContainer(key.containerId, "bandwidth")
    .flatMap((record) => decodeMade(record)?.arriving?.ifb ?? []);
  for (const name of ifbNames(key)) {
    if (!others.includes(name)) await removeIfb(host.kernel.namespace, name);
  }
}
