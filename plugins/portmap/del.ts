import type { DelRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { containerAddresses, publishedPorts } from "./attachment.ts";
import { parsePortMappings } from "./config.ts";
import type { Made } from "./made.ts";
import { releaseAttachment } from "./release.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  await releaseAttachment(key, host, guessMade(request));
}

/** Without a record: what the request says was published, if that is still this attachment's. */
function guessMade(request: DelRequest): Made | undefined {
  const { prevResult } = request.config;
  if (!prevResult) return undefined;
  try {
    const addresses = containerAddresses(prevResult, request.ifName);
    const published = publishedPorts(parsePortMappings(request.config), addresses);
    return { published, hairpin: addresses, masqueradeAll: false };
  } catch {
    // A DEL goes on with a configuration that would not do for an ADD.
    return undefined;
  }
}
