import { formatElement, type SetId, sets } from "#nftables/element.ts";
import type { NftListing } from "#nftables/json.ts";
import { elementsIn } from "#nftables/listed-element.ts";
import { Nft } from "#nftables/nft.ts";
import { type Owner, parseOwnerTag } from "#nftables/owner.ts";
import { tableName } from "#nftables/set-definition.ts";

/** An element of our nftables table that belongs to an attachment. */
export interface OwnedElement {
  /** `masquerade4 10.1.0.2` */
  readonly text: string;
  /** The comment, whole. */
  readonly tag: string;
  readonly owner: Owner;
}

/** Every element of ours in the host's namespace that has an owner. Starts nft once for each family. */
export async function readOwnedElements(): Promise<readonly OwnedElement[]> {
  const nft = new Nft();
  const listings = await Promise.all([nft.listTable("inet", tableName), nft.listTable("bridge", tableName)]);
  return listings.filter((listing) => listing !== undefined).flatMap(ownedIn);
}

function ownedIn(listing: NftListing): readonly OwnedElement[] {
  return (Object.keys(sets) as SetId[]).flatMap((id) =>
    elementsIn(listing, id).flatMap(({ key, value, comment }) => {
      const owner = parseOwnerTag(comment);
      if (owner === undefined) return [];
      return [{ text: formatElement({ set: id, key, value }), tag: comment, owner }];
    }),
  );
}
