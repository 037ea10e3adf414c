import type { Environment } from "#cni/plugin.ts";
import type { AttachmentKey } from "#journal/record.ts";
import type { Undo } from "#kernel/undo.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { Operation, OwnedSetId } from "#nftables/element.ts";
import { masqueradeElements, masqueradeRefs } from "#nftables/masquerade.ts";
import type { PluginHost } from "#plugins/context.ts";
import { isLeftToGc } from "#plugins/last-behind.ts";
import { iptablesOf, ownerOf, releaseSubnets } from "#plugins/masquerade.ts";
import type { Made } from "./made.ts";

/** The sets in which attachments of this plugin have elements. */
export const ownedSets = ["masquerade4", "masquerade6"] as const satisfies readonly OwnedSetId[];

type Masqueraded = Pick<Made, "masquerade" | "masqueradeBackend">;

/** Elements of the suite's nftables sets that one attachment needs. */
export function attachmentElements(made: Masqueraded, key: AttachmentKey): readonly Operation[] {
  if (made.masqueradeBackend !== "nftables") return [];
  return masqueradeElements({ addresses: made.masquerade, owner: ownerOf(key) });
}

/** What the iptables programs are asked to make; undefined where they have nothing to do. */
export function iptablesAttachment(made: Masqueraded, { network, containerId }: AttachmentKey) {
  if (made.masqueradeBackend !== "iptables" || made.masquerade.length === 0) return undefined;
  return { network, containerId, addresses: made.masquerade };
}

export async function addMasquerade(
  made: Masqueraded,
  work: {
    readonly key: AttachmentKey;
    readonly host: PluginHost;
    readonly environment: Environment;
    readonly undo: Undo;
  },
): Promise<void> {
  const { key, host, environment, undo } = work;
  const elements = attachmentElements(made, key);
  if (elements.length > 0) {
    undo.push("nftables elements", async () => {
      await host.nftables.removeOwned(masqueradeRefs(made.masquerade), ownerOf(key));
      if (!isLeftToGc(host)) await releaseSubnets(host, key);
    });
    await host.nftables.apply(elements);
    crashPoint("elements-added");
  }
  const attachment = iptablesAttachment(made, key);
  if (!attachment) return;
  const iptables = await iptablesOf(host, environment);
  undo.push("iptables rules", () => iptables.remove(attachment));
  await iptables.add(attachment);
  crashPoint("iptables-added");
}

export async function removeMasquerade(
  made: Masqueraded,
  work: { readonly key: AttachmentKey; readonly host: PluginHost; readonly environment: Environment },
): Promise<void> {
  const { key, host, environment } = work;
  const attachment = iptablesAttachment(made, key);
  if (attachment) await (await iptablesOf(host, environment)).remove(attachment);
  else if (made.masquerade.length > 0)
    await host.nftables.removeOwned(masqueradeRefs(made.masquerade), ownerOf(key));
  crashPoint("masquerade-removed");
}

/** What is missing, one sentence each. */
export async function masqueradeProblems(
  made: Masqueraded,
  work: { readonly key: AttachmentKey; readonly host: PluginHost; readonly environment: Environment },
): Promise<readonly string[]> {
  const { key, host, environment } = work;
  const differences = await host.nftables.differences(attachmentElements(made, key));
  const attachment = iptablesAttachment(made, key);
  const missing = attachment ? await (await iptablesOf(host, environment)).missing(attachment) : [];
  return [
    ...differences.map(({ message }) => `nftables: ${message}`),
    ...missing.map((rule) => `missing: ${rule}`),
  ];
}
