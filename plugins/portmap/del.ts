import type { DelRequest } from "#cni/plugin.ts";
import type { AttachmentKey } from "#journal/record.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeRequest } from "#plugins/departing.ts";
import { removeReferenceRules } from "#plugins/reference-rules.ts";
import { containerAddresses, describeAttachment } from "./attachment.ts";
import { parsePortmapConfig } from "./config.ts";
import type { Made } from "./made.ts";
import { releaseAttachment } from "./release.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const record = host.journal.read(key, "portmap");
  await releaseAttachment(key, host, guessMade(request, key));
  await removeReferenceRules(describeRequest(record, request), host, (rules) => rules.removePorts(key));
}

/** Without a record: what the request says was published, if that is still this attachment's. */
function guessMade({ config, ifName }: DelRequest, key: AttachmentKey): Made | undefined {
  const { prevResult } = config;
  if (!prevResult) return undefined;
  try {
    const request = { config: parsePortmapConfig(config), key, prevResult };
    const attachment = describeAttachment({ ...request, routedFamilies: [] });
    const { routed } = describeAttachment({ ...request, routedFamilies: [4, 6] });
    return { ...attachment, routed, hairpin: containerAddresses(prevResult, ifName) };
  } catch {
    // A DEL goes on with a configuration that would not do for an ADD.
    return undefined;
  }
}
