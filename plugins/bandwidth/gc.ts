import type { GcRequest } from "#cni/plugin.ts";
import { collectRecords } from "#journal/collect.ts";
import type { PluginHost } from "#plugins/context.ts";
import { releaseAttachment } from "./release.ts";

/** Takes away what attachments of this network have made that are no longer valid; goes on after an error. */
export async function gc(request: GcRequest, host: PluginHost): Promise<void> {
  const { validAttachments: valid } = request;
  if (!valid) return;
  const scope = { network: request.config.name, plugin: "bandwidth", valid };
  await collectRecords(host.journal, scope, ({ key }) => releaseAttachment(key, host));
}
