import type { DelRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import type { AttachmentKey } from "#journal/record.ts";
import type { IpAddress } from "#net/ip.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeRequest } from "#plugins/departing.ts";
import { removeReferenceRules } from "#plugins/reference-rules.ts";
import { describeAttachment } from "./attachment.ts";
import { withBackend } from "./backend.ts";
import { parseFirewallConfig } from "./config.ts";
import { decodeMade, type Made, madeOf } from "./made.ts";
import { releaseAttachment } from "./release.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const record = host.journal.read(key, "firewall");
  await releaseAttachment({ key, host }, decodeMade(record) ?? (await guessMade(request, key, host)));
  const addresses = ownAddresses(request.config.prevResult, request.ifName);
  await removeReferenceRules(describeRequest(record, request), host, (rules) =>
    rules.removeForwarding(addresses),
  );
}

function ownAddresses(result: CniResult | undefined, ifName: string): readonly IpAddress[] {
  const index = result?.interfaces.findIndex(({ name, sandbox }) => name === ifName && sandbox);
  const own = result?.ips.filter((ip) => ip.interface === undefined || ip.interface === index) ?? [];
  return own.map(({ address }) => address.address);
}

/** Without a record: what the request says, as far as that is still this attachment's. */
async function guessMade(
  { config }: DelRequest,
  key: AttachmentKey,
  host: PluginHost,
): Promise<Made | undefined> {
  const { prevResult } = config;
  if (!prevResult) return undefined;
  try {
    const served = await withBackend(parseFirewallConfig(config), host);
    return madeOf(describeAttachment({ config: served, key, prevResult }));
  } catch {
    // A DEL goes on with a configuration that would not do for an ADD.
    return undefined;
  }
}
