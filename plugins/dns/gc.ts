import type { GcRequest } from "#cni/plugin.ts";
import { collectRecords } from "#journal/collect.ts";
import type { PluginHost } from "#plugins/context.ts";
import { releaseAttachment } from "./release.ts";

/** Removes what belongs to attachments of this network that are no longer valid; goes on after an error. */
export async function gc(request: GcRequest, host: PluginHost): Promise<void> {
  const { validAttachments: valid } = request;
  if (!valid) return;
  const network = request.config.name;
  const errors: unknown[] = [];
  const attempt = async (step: () => Promise<void>) => {
    await step().catch((error: unknown) => errors.push(error));
  };
  await attempt(() =>
    collectRecords(host.journal, { network, plugin: "dns", valid }, ({ key }) =>
      releaseAttachment(key, host, undefined),
    ),
  );
  // After the loss of the journal.
  for (const entry of host.names.inNetwork(network)) {
    const { containerId, ifName } = entry;
    const isValid = valid.some((each) => each.containerId === containerId && each.ifName === ifName);
    if (!isValid) await attempt(() => host.names.withdraw(entry));
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, "Cannot remove all stale names");
}
