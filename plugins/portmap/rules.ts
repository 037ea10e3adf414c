import { CniError, ErrorCode } from "#cni/error.ts";
import type { AttachmentKey } from "#journal/record.ts";
import {
  addConditionalPorts,
  type ConditionalPorts,
  missingConditionalPorts,
  removeConditionalPorts,
} from "#nftables/conditional-ports.ts";
import type { ElementRef, Operation } from "#nftables/element.ts";
import { hairpinElements, hairpinRefs } from "#nftables/hairpin.ts";
import { IptablesPorts, type IptablesPublisher } from "#nftables/iptables/ports.ts";
import { isOfContainer, type OwnerTag, ownerTag, sameOwner } from "#nftables/owner.ts";
import {
  claimOfPorts,
  collide,
  formatClaim,
  type PublishedPorts,
  portElements,
  portRefs,
} from "#nftables/ports.ts";
import { ProgramError } from "#nftables/program.ts";
import { routedPortElements, routedPortRefs } from "#nftables/routed-ports.ts";
import type { PluginHost } from "#plugins/context.ts";
import { portAllocated } from "./error.ts";
import { decodeMade, type Made } from "./made.ts";

/**
 * The rules of one attachment: elements of the suite's maps, or rules of its own where it has conditions, or the
 * reference's chains of iptables.
 */

export function ownerOf({ network, containerId, ifName }: AttachmentKey): OwnerTag {
  return ownerTag(network, containerId, ifName);
}

/** Those of its ports that stand in the maps. */
export function mappedPorts({ backend, conditions, published }: Made): readonly PublishedPorts[] {
  if (backend === "iptables") return [];
  return published.filter(({ container }) => conditions[container.family].length === 0);
}

/** What the sets need besides the ports that are translated. */
export function sourceElements(
  { backend, routed, hairpin, masqueradeAll }: Made,
  key: AttachmentKey,
): readonly Operation[] {
  const owner = ownerOf(key);
  return [
    ...routedPortElements(routed, owner),
    ...(backend === "iptables" ? [] : hairpinElements({ addresses: hairpin, all: masqueradeAll, owner })),
  ];
}

function elementRefs(made: Made): readonly ElementRef[] {
  return [
    ...mappedPorts(made).flatMap(portRefs),
    ...hairpinRefs(made.hairpin),
    ...routedPortRefs(made.routed),
  ];
}

function conditionalPorts(made: Made, key: AttachmentKey): ConditionalPorts {
  return { published: made.published, conditions: made.conditions, owner: ownerOf(key) };
}

function iptablesOf(host: PluginHost): IptablesPorts {
  return new IptablesPorts({ namespacePath: host.kernel.namespace.path });
}

function iptablesPublisher(
  { setMark, ...made }: Made,
  { network, containerId }: AttachmentKey,
): IptablesPublisher {
  return { network, containerId, ...made, ...setMark };
}

/**
 * Makes what does not stand in the maps.
 * @throws {CniError} 7 for conditions that the program does not understand, 100 for a taken port
 */
export async function addOwnRules(made: Made, key: AttachmentKey, host: PluginHost): Promise<void> {
  try {
    if (made.backend === "iptables") {
      refuseTakenInIptables(made, key, host);
      await iptablesOf(host).add(iptablesPublisher(made, key));
    } else {
      await addConditionalPorts(host.nftables.nft, conditionalPorts(made, key));
    }
  } catch (error) {
    const hasConditions = made.conditions[4].length > 0 || made.conditions[6].length > 0;
    if (!(error instanceof ProgramError) || error.missing || !hasConditions) throw error;
    const conditions = JSON.stringify({ conditionsV4: made.conditions[4], conditionsV6: made.conditions[6] });
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use portmap configuration: ${conditions}: ${error.message}`,
      { cause: error },
    );
  }
}

/** iptables takes the first of two rules for a port, and no notice of the second: so the records have to tell. */
function refuseTakenInIptables(made: Made, key: AttachmentKey, host: PluginHost): void {
  if (made.conditions[4].length > 0 || made.conditions[6].length > 0) return;
  for (const record of host.journal.list()) {
    if (record.plugin !== "portmap" || record.key.containerId === key.containerId) continue;
    const other = decodeMade(record);
    if (other?.backend !== "iptables") continue;
    const claims = other.published.map(claimOfPorts);
    const taken = made.published
      .map(claimOfPorts)
      .find((claim) => claims.some((each) => collide(each, claim)));
    if (!taken) continue;
    const { network, containerId, ifName } = record.key;
    const holder = `container ${JSON.stringify(containerId)} (${ifName}, network ${JSON.stringify(network)})`;
    throw portAllocated(`Cannot publish ${formatClaim(taken)}: port is already allocated to ${holder}`);
  }
}

/** Takes all of it away, as far as it is still this attachment's. */
export async function removeRules(made: Made, key: AttachmentKey, host: PluginHost): Promise<void> {
  if (made.backend === "iptables") {
    await iptablesOf(host).remove(iptablesPublisher(made, key));
    await host.nftables.removeOwned(routedPortRefs(made.routed), ownerOf(key));
    return;
  }
  await host.nftables.removeOwned(elementRefs(made), ownerOf(key));
  await removeConditionalPorts(host.nftables.nft, conditionalPorts(made, key));
}

/** What is missing or wrong, in words. */
export async function ruleProblems(
  made: Made,
  key: AttachmentKey,
  host: PluginHost,
): Promise<readonly string[]> {
  const missing = await missingOwnRules(made, key, host);
  if (made.backend === "iptables") return missing.map((rule) => `missing: ${rule}`);
  const owner = ownerOf(key);
  const ports = mappedPorts(made).flatMap((each) => portElements(each, owner));
  const problems: string[] = [];
  for (const { element, message } of await host.nftables.differences([
    ...sourceElements(made, key),
    ...ports,
  ])) {
    // Another network of the same container may have the port.
    const present = await host.nftables.read(element);
    const isOwn = sameOwner(present?.comment ?? "", owner);
    if (present?.owner && !isOwn && isOfContainer(present.owner, key.containerId)) continue;
    problems.push(`nftables: ${message}`);
  }
  return [...problems, ...missing];
}

/** True if something of it does not stand in the maps. */
export function hasOwnRules({ backend, conditions }: Made): boolean {
  return backend === "iptables" || conditions[4].length > 0 || conditions[6].length > 0;
}

/** What is missing of that which does not stand in the maps, in words. */
export async function missingOwnRules(
  made: Made,
  key: AttachmentKey,
  host: PluginHost,
): Promise<readonly string[]> {
  if (made.backend === "iptables") return await iptablesOf(host).missing(iptablesPublisher(made, key));
  return await missingConditionalPorts(host.nftables.nft, conditionalPorts(made, key));
}

/** @throws {Error} where the backend's program is missing or the kernel refuses */
export async function rulesUsable(backend: Made["backend"], host: PluginHost): Promise<void> {
  if (backend === "iptables") await iptablesOf(host).usable();
  else await host.nftables.usable();
}
