import type { NamespaceIdentity } from "#cni/plugin.ts";
import type { Journal } from "#journal/journal.ts";
import type { JournalRecord } from "#journal/record.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import type { AttachmentKey, CachedAttachment, ResultCache } from "./cache.ts";

/** One interface of one container in one network, known from the journal, the cache of results, or both. */
export interface KnownAttachment extends AttachmentKey {
  /** Path of the namespace as the runtime gave it; empty if nobody recorded it. */
  readonly netns: string;
  /** Its namespace is still there: the one that was recorded, where the journal knows which. */
  readonly isAlive: boolean;
}

/** Attachments of one network, or of all: what the plugins recorded, and what a runtime cached. By network, container and interface. */
export async function listAttachments(
  journal: Journal,
  cache: ResultCache,
  network?: string,
): Promise<readonly KnownAttachment[]> {
  const cached = await cache.list(network);
  return attachmentsIn(journal.list(network), cached);
}

/** The same of what was read already. */
export function attachmentsIn(
  records: readonly JournalRecord[],
  cached: readonly CachedAttachment[],
): readonly KnownAttachment[] {
  const found = new Map<string, KnownAttachment>();
  // Each plugin of a chain has a record, and names the same one.
  const looked = new Map<string, ReturnType<typeof identifyNamespace>>();
  const identify = (path: string) => {
    const there = looked.get(path) ?? identifyNamespace(path);
    looked.set(path, there);
    return there;
  };
  const note = (key: AttachmentKey, netns: string, identity?: NamespaceIdentity) => {
    const { network, containerId, ifName } = key;
    const id = [network, containerId, ifName].join(" ");
    const earlier = found.get(id);
    if (earlier !== undefined && netns === "") return;
    const there = netns === "" ? "missing" : identify(netns);
    const isAlive =
      typeof there === "object" &&
      (identity === undefined || (identity.ino === there.ino && identity.dev === there.dev)) &&
      earlier?.isAlive !== false;
    found.set(id, { network, containerId, ifName, netns, isAlive });
  };
  for (const each of cached) note(each, each.netns);
  for (const record of records) {
    if (record.phase === "torn") note(record.key, "");
    else note(record.key, record.netns?.path ?? "", record.netns);
  }
  return [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, attachment]) => attachment);
}
