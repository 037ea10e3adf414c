import type { NamespaceRef } from "#cni/plugin.ts";
import type { JournalRecord } from "#journal/record.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import type { PluginHost } from "./context.ts";

/**
 * Opens the namespace in which an attachment was made, for a DEL or GC that has to take something back there. Where
 * there is a record, that is the one it names, and no other that a runtime hands in or that has taken its place.
 * @param given CNI_NETNS, for an attachment without a record
 * @returns undefined where it is gone
 */
export function openAttachmentNamespace(
  host: PluginHost,
  record: JournalRecord | undefined,
  given?: NamespaceRef,
): NetworkNamespace | undefined {
  const candidates = record && record.phase !== "torn" ? recorded(host, record, given) : given ? [given] : [];
  for (const target of candidates) {
    try {
      return host.kernel.open(target);
    } catch (error) {
      if (!(error instanceof NamespaceError)) throw error;
    }
  }
  return undefined;
}

/** The runtime may have mounted it elsewhere meanwhile. */
function recorded(
  host: PluginHost,
  record: Exclude<JournalRecord, { phase: "torn" }>,
  given: NamespaceRef | undefined,
): readonly NamespaceRef[] {
  const { netns, bootId } = record;
  if (!netns || bootId !== host.bootId) return [];
  const isSame = given !== undefined && given.dev === netns.dev && given.ino === netns.ino;
  return isSame ? [given, netns] : [netns];
}
