import { keyText, type NameEntry, type NamespaceId } from "#dns-resolver/registry.ts";
import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import type { NamespaceTarget } from "#kernel/namespace.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { isSameNamespace } from "#machine/namespace-identity.ts";
import { removeResolverRedirect } from "#nftables/resolver-redirect.ts";
import type { PluginHost } from "#plugins/context.ts";
import { reportNames } from "#plugins/network-events.ts";

/** The container's other attachments that have names: all of them share the resolver's port. */
export function sharing(key: AttachmentKey, namespace: NamespaceId, host: PluginHost): readonly NameEntry[] {
  return host.names.inNamespace(namespace).filter((entry) => keyText(entry) !== keyText(key));
}

/**
 * Takes an attachment's names away, then what leads its container to the resolver if that was its last, then the
 * record. What is gone already is fine.
 * @param netns where the container is, as far as the caller knows
 */
export async function releaseAttachment(
  key: AttachmentKey,
  host: PluginHost,
  netns: NamespaceTarget | undefined,
): Promise<void> {
  const record = host.journal.read(key, "dns");
  if (record?.phase === "done") host.journal.leave(key, "dns");
  // First of all, since the resolver's sockets keep the namespace alive.
  await host.names.withdraw(key);
  crashPoint("names-withdrawn");
  const target = namespaceOf(record, host, netns);
  if (target && record) removeRedirect(key, target, host);
  crashPoint("redirect-removed");
  if (!record) return;
  host.journal.remove(key, "dns");
  if (record.phase !== "intent") reportNames("withdraw", key, [], host);
}

/** That of the record, if it is there still; else the one that was given, if that is where the record says. */
function namespaceOf(
  record: JournalRecord | undefined,
  host: PluginHost,
  given: NamespaceTarget | undefined,
): NamespaceTarget | undefined {
  const recorded =
    record && record.phase !== "torn" && record.bootId === host.bootId ? record.netns : undefined;
  if (!recorded) return given;
  if (given && isSameNamespace(recorded, given)) return given;
  const present = host.identifyNamespace(recorded.path);
  const isThere = typeof present === "object" && present.dev === recorded.dev && present.ino === recorded.ino;
  return isThere ? recorded : undefined;
}

/** Takes the redirect away, unless another attachment of the container needs it. */
export function removeRedirect(key: AttachmentKey, netns: NamespaceTarget, host: PluginHost): void {
  if (sharing(key, netns, host).length > 0) return;
  try {
    const namespace = host.kernel.open(netns);
    try {
      removeResolverRedirect(namespace.fd);
    } finally {
      namespace.close();
    }
  } catch (error) {
    // It went with its namespace.
    if (!(error instanceof NamespaceError)) throw error;
  }
}
