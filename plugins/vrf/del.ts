import type { DelRequest } from "#cni/plugin.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { parseVrfConfig, type VrfConfig } from "./config.ts";
import type { Made } from "./made.ts";
import { releaseAttachment } from "./release.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  await releaseAttachment(key, host, request.netns, (namespace) => guessMade(request, namespace));
}

/** Without a record, as of a container that the reference plugin has attached. */
function guessMade({ config, ifName }: DelRequest, namespace: NetworkNamespace): Made | undefined {
  const parsed = tryParse(config);
  if (!parsed) return undefined;
  const link = readLink(namespace, parseIfName(ifName));
  return { vrf: parsed.name, table: 0, ifindex: link?.ifindex ?? 0 };
}

/** A DEL goes on with a configuration that would not do for an ADD. */
function tryParse(config: DelRequest["config"]): VrfConfig | undefined {
  try {
    return parseVrfConfig(config);
  } catch {
    return undefined;
  }
}
