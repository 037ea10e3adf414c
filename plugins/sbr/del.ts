import type { DelRequest } from "#cni/plugin.ts";
import { readAddresses } from "#kernel/address.ts";
import { readLink } from "#kernel/link.ts";
import { removeSourceRules, rulesFrom } from "#kernel/policy-routing.ts";
import { parseIfName } from "#net/ifname.ts";
import { openAttachmentNamespace } from "#plugins/attachment-namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { ownAddresses } from "./attachment.ts";
import { releaseAttachment } from "./release.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  if (!releaseAttachment(key, host, request.netns)) removeUnrecorded(request, host);
}

/**
 * Without a record, as of a container that the reference plugin has attached: the rules from the interface's addresses.
 * The tables go with the interface.
 */
function removeUnrecorded({ config, ifName, netns }: DelRequest, host: PluginHost): void {
  using namespace = openAttachmentNamespace(host, undefined, netns);
  if (!namespace) return;
  const link = readLink(namespace, parseIfName(ifName));
  const present = link ? readAddresses(namespace, link.ifindex).map(({ address }) => address) : [];
  const recorded = config.prevResult ? ownAddresses(config.prevResult, ifName, present) : [];
  const addresses = [...present, ...recorded.map(({ address }) => address)];
  removeSourceRules(
    namespace,
    addresses.flatMap(({ address }) => rulesFrom(namespace, address)),
  );
}
