import type { DelRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { releaseAttachment } from "./release.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  await releaseAttachment(key, host, request.netns);
}
