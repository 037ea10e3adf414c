import type { GcRequest } from "#cni/plugin.ts";
import { IpamDelegate } from "#ipam/delegate.ts";
import { collectRecords } from "#journal/collect.ts";
import { ownerTag, sameOwner } from "#nftables/owner.ts";
import type { PluginHost } from "#plugins/context.ts";
import { ownedSets, releaseSubnets } from "./elements.ts";
import { describeRecord, removeAttachment } from "./remove.ts";

/** Removes what belongs to attachments of this network that are no longer valid; goes on after an error. */
export async function gc(request: GcRequest, host: PluginHost): Promise<void> {
  const errors: unknown[] = [];
  const attempt = async (action: () => Promise<void>) => {
    try {
      await action();
    } catch (error) {
      errors.push(error);
    }
  };
  const { validAttachments: valid } = request;
  const network = request.config.name;
  if (valid) {
    await attempt(() =>
      collectRecords(host.journal, { network, plugin: "bridge", valid }, (record) =>
        removeAttachment(describeRecord(record, request), host),
      ),
    );
    await attempt(() => removeOrphans(network, valid, host));
    await attempt(() => releaseSubnets(host));
  }
  await attempt(() => new IpamDelegate(host.runner).gc(request));
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) {
    throw new AggregateError(
      errors,
      errors.map((error) => (error instanceof Error ? error.message : String(error))).join("; "),
    );
  }
}

/** Elements of this network whose attachment has no record, as after the loss of the journal. */
async function removeOrphans(
  network: string,
  valid: readonly { readonly containerId: string; readonly ifName: string }[],
  host: PluginHost,
): Promise<void> {
  const keep = valid.map(({ containerId, ifName }) => ownerTag(network, containerId, ifName));
  for (const set of ownedSets) {
    const stale = (await host.nftables.list(set)).flatMap(({ key, owner, comment }) => {
      if (owner?.network !== network || keep.some((tag) => sameOwner(tag, comment))) return [];
      // The words may be cut: only what hashes to the tag is certain to be this network's.
      const tag = ownerTag(network, owner.containerId, owner.ifName);
      return sameOwner(tag, comment) ? [{ ref: { set, key } as never, owner: tag }] : [];
    });
    if (stale.length > 0) await host.nftables.remove(stale);
  }
}
