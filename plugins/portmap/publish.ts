import { withAttachmentLock } from "#journal/attachment-lock.ts";
import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import { LockTimeoutError } from "#machine/lock.ts";
import { PortTakenError, type PublishedPorts } from "#nftables/ports.ts";
import { publishPorts } from "#nftables/publish.ts";
import type { PluginHost } from "#plugins/context.ts";
import { portAllocated } from "./error.ts";
import { addHeir } from "./heirs.ts";
import { releaseAttachment } from "./release.ts";
import { ownerOf } from "./rules.ts";

/**
 * Publishes the ports of one attachment. Those that another attachment of the same container has stay with that one.
 * Those of a container whose namespace is gone are taken: its DEL has never come.
 * @throws {CniError} 100
 */
export async function publishOrTakeOver(
  published: readonly PublishedPorts[],
  key: AttachmentKey,
  host: PluginHost,
): Promise<void> {
  const publisher = { owner: ownerOf(key), containerId: key.containerId };
  for (const tried = new Set<string>(); ; ) {
    try {
      const kept = await publishPorts(host.nftables, published, publisher);
      if (kept.length === 0) return;
      await addHeir(key, host);
      // The other one may have gone before it could know of this one.
      await publishPorts(host.nftables, published, publisher);
      return;
    } catch (error) {
      if (!(error instanceof PortTakenError)) throw error;
      const { owner } = error;
      if (!owner || tried.has(owner.hash) || !(await releaseIfGone(owner.hash, host))) {
        throw portAllocated(error.message, error);
      }
      tried.add(owner.hash);
    }
  }
}

/** @returns false if that attachment's container is there, or nobody knows */
async function releaseIfGone(ownerHash: string, host: PluginHost): Promise<boolean> {
  const record = host.journal.find("portmap", (key) => ownerOf(key).startsWith(`${ownerHash} `));
  if (!record || !isGone(record, host)) return false;
  try {
    // Whoever holds the lock is at work on it: the container is coming, or its DEL is.
    const release = () => releaseAttachment(record.key, host);
    await withAttachmentLock(host.directories.run, record.key, release, { timeoutMs: 0 });
    return true;
  } catch (error) {
    if (error instanceof LockTimeoutError) return false;
    throw error;
  }
}

function isGone(record: JournalRecord, host: PluginHost): boolean {
  if (record.phase === "torn" || !record.netns) return false;
  if (record.bootId !== host.bootId) return true;
  const { path, dev, ino } = record.netns;
  const present = host.identifyNamespace(path);
  return typeof present === "string" || present.dev !== dev || present.ino !== ino;
}
