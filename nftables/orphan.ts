import type { ElementRef, OwnedSetId } from "./element.ts";
import type { Nftables } from "./nftables.ts";
import { ownerTag, sameOwner } from "./owner.ts";

/**
 * Removes elements of one network whose attachment is not among the valid ones: for those that have no record any
 * more. Reads the sets whole.
 * @throws {NetlinkError}
 */
export async function removeOrphans(
  nftables: Nftables,
  sets: readonly OwnedSetId[],
  scope: {
    readonly network: string;
    readonly valid: readonly { readonly containerId: string; readonly ifName: string }[];
  },
): Promise<void> {
  const { network, valid } = scope;
  const keep = new Set<string>(
    valid.map(({ containerId, ifName }) => ownerTag(network, containerId, ifName).slice(0, 16)),
  );
  for (const set of sets) {
    const stale = (await nftables.list(set)).flatMap(({ key, owner, comment }) => {
      if (owner?.network !== network || keep.has(owner.hash)) return [];
      // The words may be cut: only what hashes to the tag is certain to be this network's.
      const tag = ownerTag(network, owner.containerId, owner.ifName);
      return sameOwner(tag, comment) ? [{ ref: { set, key } as ElementRef, owner: tag }] : [];
    });
    if (stale.length > 0) await nftables.remove(stale);
  }
}
