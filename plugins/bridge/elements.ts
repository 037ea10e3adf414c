import type { AttachmentKey } from "#journal/record.ts";
import type { ElementRef, Operation, OwnedSetId } from "#nftables/element.ts";
import { macSpoofElements, macSpoofRefs } from "#nftables/mac-spoof.ts";
import { masqueradeElements, masqueradeRefs } from "#nftables/masquerade.ts";
import { ownerOf } from "#plugins/masquerade.ts";
import type { Made } from "./made.ts";

/** Elements of the suite's nftables sets that one attachment needs, all of them for one transaction. */
export function attachmentElements(made: Made, key: AttachmentKey): readonly Operation[] {
  const owner = ownerOf(key);
  return [
    ...(made.masqueradeBackend === "nftables"
      ? masqueradeElements({ addresses: made.masquerade, owner })
      : []),
    ...(made.macSpoofCheck ? macSpoofElements({ port: made.hostVeth, mac: made.containerMac, owner }) : []),
  ];
}

/** What of them belongs to the attachment alone, to be removed. */
export function attachmentRefs(made: Made): readonly ElementRef[] {
  return [
    ...(made.masqueradeBackend === "nftables" ? masqueradeRefs(made.masquerade) : []),
    ...(made.macSpoofCheck ? macSpoofRefs({ port: made.hostVeth, mac: made.containerMac }) : []),
  ];
}

/** The sets in which attachments of this plugin have elements. */
export const ownedSets = [
  "masquerade4",
  "masquerade6",
  "macChecked",
  "macAllowed",
] as const satisfies readonly OwnedSetId[];
