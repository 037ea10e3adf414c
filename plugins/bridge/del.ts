import type { DelRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeRequest } from "#plugins/departing.ts";
import { removeAttachment } from "./remove.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  await removeAttachment(describeRequest(host.journal.read(key, "bridge"), request), host);
}
