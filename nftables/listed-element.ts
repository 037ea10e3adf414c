import { definitionOf, type SetId } from "./element.ts";
import type { NftElement, NftListing } from "./json.ts";
import { tableName } from "./set-definition.ts";

/** An element of ours as `nft -j` shows it, its key and value parsed. */
export interface ListedElement {
  readonly set: SetId;
  readonly key: readonly unknown[];
  readonly value?: readonly unknown[];
  /** An owner tag, if it is one of ours; "" without comment. */
  readonly comment: string;
}

/** The elements of one of our sets in a listing of our table, of the set or of the whole ruleset. */
export function elementsIn(listing: NftListing, id: SetId): readonly ListedElement[] {
  const definition = definitionOf(id);
  const set = listing.sets.find(
    (set) => set.family === definition.family && set.table === tableName && set.name === definition.name,
  );
  return (set?.elements ?? []).flatMap((element) => parseListed(id, element) ?? []);
}

/** `undefined` for what another hand put there and is no value of ours, such as a range that is no prefix. */
function parseListed(id: SetId, element: NftElement): ListedElement | undefined {
  const { key, value } = definitionOf(id);
  try {
    return {
      set: id,
      key: key.map((field, index) => field.parseJson(element.key[index])),
      ...(value ? { value: value.map((field, index) => field.parseJson(element.value?.[index])) } : {}),
      comment: element.comment ?? "",
    };
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
