import { isDeepStrictEqual } from "node:util";
import * as v from "valibot";
import type { Environment } from "#cni/plugin.ts";
import { goObject } from "#cni/schema.ts";
import { cidr } from "#cni/schema-values.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { type Cidr, networkOf } from "#net/cidr.ts";
import type { ElementRef, Operation, OwnedSetId } from "#nftables/element.ts";
import type { IptablesMasquerade } from "#nftables/iptables-masquerade.ts";
import { macSpoofElements, macSpoofRefs } from "#nftables/mac-spoof.ts";
import { masqueradeElements, masqueradeRefs } from "#nftables/masquerade.ts";
import { type OwnerTag, ownerTag, sameOwner } from "#nftables/owner.ts";
import type { PluginHost } from "#plugins/context.ts";
import { decodeMade, type Made } from "./made.ts";

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

/** Removes every element that carries the attachment's name, for when its record can't say which it had. */
export async function removeAllElements(host: PluginHost, key: AttachmentKey): Promise<void> {
  const owner = ownerOf(key);
  for (const set of ownedSets) {
    const refs = (await host.nftables.list(set))
      .filter(({ comment }) => sameOwner(comment, owner))
      .map((element) => ({ set, key: element.key }) as ElementRef);
    await host.nftables.removeOwned(refs, owner);
  }
}

export function ownerOf({ network, containerId, ifName }: AttachmentKey): OwnerTag {
  return ownerTag(network, containerId, ifName);
}

/** The iptables programs of the host's namespace, for an operator who insists on them. */
export async function iptablesOf(host: PluginHost, environment: Environment): Promise<IptablesMasquerade> {
  // Few ask for it, and its names need node:crypto, which takes 8 ms to load.
  const { IptablesMasquerade } = await import("#nftables/iptables-masquerade.ts");
  return new IptablesMasquerade({
    searchPath: environment["PATH"],
    namespacePath: host.kernel.namespace.path,
  });
}

const addressed = goObject({ ips: v.optional(v.array(goObject({ address: cidr })), []) });

/**
 * Removes the shared elements of subnets in which nobody has an address any more. Any plugin's record may name one.
 * @param leaving an attachment that is being taken back, and needs none
 */
export async function releaseSubnets(host: PluginHost, leaving?: AttachmentKey): Promise<void> {
  await host.nftables.retainSubnets(() => subnetsInUse(host, leaving));
}

/** Undefined where an ADD is under way: what it will use is not known yet. */
function subnetsInUse(host: PluginHost, leaving: AttachmentKey | undefined): readonly Cidr[] | undefined {
  const inUse: Cidr[] = [];
  for (const record of host.journal.list()) {
    if (isDeepStrictEqual(record.key, leaving)) continue;
    if (record.phase !== "done") return undefined;
    inUse.push(...(decodeMade(record)?.masquerade ?? []));
    const result = v.safeParse(addressed, record.result);
    if (result.success) inUse.push(...result.output.ips.map(({ address }) => address));
  }
  return inUse.map(networkOf);
}
