import type { GcRequest } from "#cni/plugin.ts";
import { collectAttachments } from "#plugins/collect-attachments.ts";
import type { PluginHost } from "#plugins/context.ts";
import { releaseSubnets, removeOrphanElements } from "#plugins/masquerade.ts";
import { ownedSets, releasePolicies } from "./elements.ts";
import { removeAttachment } from "./remove.ts";

/** Removes what belongs to attachments of this network that are no longer valid; goes on after an error. */
export async function gc(request: GcRequest, host: PluginHost): Promise<void> {
  await collectAttachments(request, host, {
    plugin: "bridge",
    remove: (departing) => removeAttachment(departing, host),
    sweep: [
      (network, valid) => removeOrphanElements(host, network, valid, ownedSets),
      () => releaseSubnets(host),
      () => releasePolicies(host),
    ],
  });
}
