import { isDeepStrictEqual } from "node:util";
import * as v from "valibot";
import type { Environment, GcRequest } from "#cni/plugin.ts";
import { goObject } from "#cni/schema.ts";
import { cidr } from "#cni/schema-values.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { type Cidr, networkOf } from "#net/cidr.ts";
import type { ElementRef, OwnedSetId } from "#nftables/element.ts";
import type { IptablesMasquerade } from "#nftables/iptables/masquerade.ts";
import { type OwnerTag, ownerTag, sameOwner } from "#nftables/owner.ts";
import type { PluginHost } from "./context.ts";

/** Under whose name an attachment's elements stand in the suite's nftables sets. */
export function ownerOf({ network, containerId, ifName }: AttachmentKey): OwnerTag {
  return ownerTag(network, containerId, ifName);
}

/** Removes every element that carries the attachment's name, for when its record can't say which it had. */
export async function removeAllElements(
  host: PluginHost,
  key: AttachmentKey,
  sets: readonly OwnedSetId[],
): Promise<void> {
  const owner = ownerOf(key);
  for (const set of sets) {
    const refs = (await host.nftables.list(set))
      .filter(({ comment }) => sameOwner(comment, owner))
      .map((element) => ({ set, key: element.key }) as ElementRef);
    await host.nftables.removeOwned(refs, owner);
  }
}

/** Removes elements of a network whose attachment has no record, as after the loss of the journal. For GC. */
export async function removeOrphanElements(
  host: PluginHost,
  network: string,
  valid: NonNullable<GcRequest["validAttachments"]>,
  sets: readonly OwnedSetId[],
): Promise<void> {
  const keep = valid.map(({ containerId, ifName }) => ownerTag(network, containerId, ifName));
  for (const set of sets) {
    const stale = (await host.nftables.list(set)).flatMap(({ key, owner, comment }) => {
      if (owner?.network !== network || keep.some((tag) => sameOwner(tag, comment))) return [];
      // The words may be cut: only what hashes to the tag is certain to be this network's.
      const tag = ownerTag(network, owner.containerId, owner.ifName);
      return sameOwner(tag, comment) ? [{ ref: { set, key } as never, owner: tag }] : [];
    });
    if (stale.length > 0) await host.nftables.remove(stale);
  }
}

/** The iptables programs of the host's namespace, for an operator who insists on them. */
export async function iptablesOf(host: PluginHost, environment: Environment): Promise<IptablesMasquerade> {
  // Few ask for it, and its names need node:crypto, which takes 8 ms to load.
  const { IptablesMasquerade } = await import("#nftables/iptables/masquerade.ts");
  return new IptablesMasquerade({
    searchPath: environment["PATH"],
    namespacePath: host.kernel.namespace.path,
  });
}

/** What any plugin's record may say: addresses it masquerades, and those in its result. */
const masquerading = goObject({ masquerade: v.array(cidr) });
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
    const made = v.safeParse(masquerading, record.made);
    if (made.success) inUse.push(...made.output.masquerade);
    const result = v.safeParse(addressed, record.result);
    if (result.success) inUse.push(...result.output.ips.map(({ address }) => address));
  }
  return inUse.map(networkOf);
}
