import type { GcRequest } from "#cni/plugin.ts";
import { collectRecords } from "#journal/collect.ts";
import type { PluginHost } from "#plugins/context.ts";
import { releaseAttachment } from "./release.ts";

/** Takes out the interfaces of attachments of this network that are no longer valid; goes on after an error. */
export async function gc(request: GcRequest, host: PluginHost): Promise<void> {
  const { validAttachments: valid } = request;
  if (!valid) return;
  const scope = { network: request.config.name, plugin: "vrf", valid };
  await collectRecords(host.journal, scope, ({ key }) => releaseAttachment(key, host));
}
