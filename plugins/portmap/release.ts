import { withAttachmentLock } from "#journal/attachment-lock.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { LockTimeoutError } from "#machine/lock.ts";
import { PortTakenError } from "#nftables/ports.ts";
import { publishPorts } from "#nftables/publish.ts";
import type { PluginHost } from "#plugins/context.ts";
import { forgetFlowsAfter } from "./flows.ts";
import { heirsOf, removeHeir } from "./heirs.ts";
import { decodeMade, type Made } from "./made.ts";
import { mappedPorts, ownerOf, removeRules } from "./rules.ts";

/** How long to wait for whoever works on the container's other attachment. */
const heirTimeoutMs = 2_000;

/**
 * Takes away what an attachment has published, then its record. What is gone already is fine.
 * @param guess what it may have published, where there is no record
 */
export async function releaseAttachment(key: AttachmentKey, host: PluginHost, guess?: Made): Promise<void> {
  const record = host.journal.read(key, "portmap");
  const made = decodeMade(record) ?? guess;
  if (record?.phase === "done") host.journal.leave(key, "portmap");
  if (made) {
    await removeRules(made, key, host);
    await forgetFlowsAfter(made.published, host);
  }
  await removeHeir(key, host);
  if (record) host.journal.remove(key, "portmap");
  if (record && made && mappedPorts(made).length > 0) await passOn(key, host);
}

/**
 * A runtime publishes a container's ports in each of its networks, and the first has them. When it goes, the ports go
 * to the next.
 */
async function passOn(key: AttachmentKey, host: PluginHost): Promise<void> {
  for (const heir of heirsOf(key.containerId, host)) {
    const publish = async () => {
      // It may have gone while we waited.
      const record = host.journal.read(heir, "portmap");
      const made = record?.phase === "done" ? decodeMade(record) : undefined;
      if (!made) return;
      const publisher = { owner: ownerOf(heir), containerId: key.containerId };
      await publishPorts(host.nftables, mappedPorts(made), publisher);
    };
    try {
      await withAttachmentLock(host.directories.run, heir, publish, { timeoutMs: heirTimeoutMs });
    } catch (error) {
      // Its own verb is under way and settles it; or somebody else was faster.
      if (!(error instanceof LockTimeoutError) && !(error instanceof PortTakenError)) throw error;
    }
  }
}
