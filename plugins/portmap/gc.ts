import type { GcRequest } from "#cni/plugin.ts";
import { collectRecords } from "#journal/collect.ts";
import { removeOrphans } from "#nftables/orphan.ts";
import { portSets } from "#nftables/ports.ts";
import { releasePublishedOn } from "#nftables/publish.ts";
import { routedPortSets } from "#nftables/routed-ports.ts";
import type { PluginHost } from "#plugins/context.ts";
import { releaseAttachment } from "./release.ts";

/** Removes what belongs to attachments of this network that are no longer valid; goes on after an error. */
export async function gc(request: GcRequest, host: PluginHost): Promise<void> {
  const { validAttachments: valid } = request;
  if (!valid) return;
  const network = request.config.name;
  const steps = [
    () =>
      collectRecords(host.journal, { network, plugin: "portmap", valid }, ({ key }) =>
        releaseAttachment(key, host),
      ),
    // After the loss of the journal.
    () => removeOrphans(host.nftables, [...portSets, ...routedPortSets], { network, valid }),
    () => releasePublishedOn(host.nftables),
  ];
  const errors: unknown[] = [];
  for (const step of steps) {
    await step().catch((error: unknown) => errors.push(error));
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, "Cannot remove all stale port mappings");
}
