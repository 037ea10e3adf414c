import type { DelRequest } from "#cni/plugin.ts";
import type { AttachmentKey } from "#journal/record.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeAttachment } from "./attachment.ts";
import { parseFirewallConfig } from "./config.ts";
import { type Made, madeOf } from "./made.ts";
import { releaseAttachment } from "./release.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  await releaseAttachment({ key, environment: request.environment, host }, guessMade(request, key));
}

/** Without a record: what the request says, as far as that is still this attachment's. */
function guessMade({ config }: DelRequest, key: AttachmentKey): Made | undefined {
  const { prevResult } = config;
  if (!prevResult) return undefined;
  try {
    return madeOf(describeAttachment({ config: parseFirewallConfig(config), key, prevResult }));
  } catch {
    // A DEL goes on with a configuration that would not do for an ADD.
    return undefined;
  }
}
