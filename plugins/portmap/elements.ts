import type { AttachmentKey } from "#journal/record.ts";
import type { ElementRef, Operation } from "#nftables/element.ts";
import { hairpinElements, hairpinRefs } from "#nftables/hairpin.ts";
import { type OwnerTag, ownerTag } from "#nftables/owner.ts";
import { portElements, portRefs } from "#nftables/ports.ts";
import type { Made } from "./made.ts";

export function ownerOf({ network, containerId, ifName }: AttachmentKey): OwnerTag {
  return ownerTag(network, containerId, ifName);
}

/** What has to be there besides the ports. */
export function sourceElements({ hairpin, masqueradeAll }: Made, key: AttachmentKey): readonly Operation[] {
  return hairpinElements({ addresses: hairpin, all: masqueradeAll, owner: ownerOf(key) });
}

/** All of it, for CHECK. */
export function attachmentElements(made: Made, key: AttachmentKey): readonly Operation[] {
  return [
    ...sourceElements(made, key),
    ...made.published.flatMap((each) => portElements(each, ownerOf(key))),
  ];
}

/** What of it belongs to the attachment alone, to be removed. */
export function attachmentRefs(made: Made): readonly ElementRef[] {
  return [...made.published.flatMap(portRefs), ...hairpinRefs(made.hairpin)];
}
