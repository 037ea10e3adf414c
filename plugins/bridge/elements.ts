import type { Environment } from "#cni/plugin.ts";
import type { AttachmentKey } from "#journal/record.ts";
import type { ElementRef, Operation } from "#nftables/element.ts";
import { IptablesMasquerade } from "#nftables/iptables-masquerade.ts";
import { macSpoofElements, macSpoofRefs } from "#nftables/mac-spoof.ts";
import { masqueradeElements, masqueradeRefs } from "#nftables/masquerade.ts";
import { type OwnerTag, ownerTag } from "#nftables/owner.ts";
import type { PluginHost } from "#plugins/context.ts";
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
    ...masqueradeRefs(made.masquerade),
    ...(made.macSpoofCheck ? macSpoofRefs({ port: made.hostVeth, mac: made.containerMac }) : []),
  ];
}

export function ownerOf({ network, containerId, ifName }: AttachmentKey): OwnerTag {
  return ownerTag(network, containerId, ifName);
}

/** The iptables programs of the host's namespace, for an operator who insists on them. */
export function iptablesOf(host: PluginHost, environment: Environment): IptablesMasquerade {
  return new IptablesMasquerade({
    searchPath: environment["PATH"],
    namespacePath: host.kernel.namespace.path,
  });
}
