import { isDeepStrictEqual } from "node:util";
import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import type { IpAddress } from "#net/ip.ts";
import { presentPolicy, readPolicyNumber, retainPolicies } from "#nftables/device-policy.ts";
import type { ElementRef, Operation, OwnedSetId } from "#nftables/element.ts";
import { type CheckedPort, ipSpoofElements, ipSpoofRefs, ipSpoofSets } from "#nftables/ip-spoof.ts";
import { macSpoofElements, macSpoofRefs } from "#nftables/mac-spoof.ts";
import {
  fixedSourceElement,
  fixedSourceRef,
  masqueradeElements,
  masqueradeRefs,
} from "#nftables/masquerade.ts";
import { networkPolicySets, policyElements, policyNumber } from "#nftables/network-policy.ts";
import { stillOwned } from "#nftables/nftables.ts";
import type { PluginHost } from "#plugins/context.ts";
import { isLastBehind } from "#plugins/last-behind.ts";
import { ownerOf } from "#plugins/masquerade.ts";
import { decodeMade, type Made } from "./made.ts";

/** Elements of the suite's nftables sets that one attachment needs, all of them for one transaction. */
export function attachmentElements(made: Made, key: AttachmentKey): readonly Operation[] {
  const owner = ownerOf(key);
  const own = [
    ...(made.masqueradeBackend === "nftables"
      ? masqueradeElements({ addresses: made.masquerade, owner })
      : []),
    ...made.snat.map((source) => fixedSourceElement(source, owner)),
    ...(made.macSpoofCheck ? macSpoofElements({ port: made.hostVeth, mac: made.containerMac, owner }) : []),
    ...(made.ownAddresses ? ipSpoofElements(checkedPort(made, made.ownAddresses), owner) : []),
  ];
  const { device, policy } = made;
  // A network that needs no rule at all works without nftables.
  const leaves = made.masqueradeBackend === "nftables" && made.masquerade.length > 0;
  const isNeeded = policy && (leaves || policyNumber(policy) !== 0);
  return [...(isNeeded && device ? policyElements(device, policy) : []), ...own];
}

/** What of them belongs to the attachment alone, to be removed. */
export function attachmentRefs(made: Made): readonly ElementRef[] {
  return [
    ...(made.masqueradeBackend === "nftables" ? masqueradeRefs(made.masquerade) : []),
    ...made.snat.map(fixedSourceRef),
    ...(made.macSpoofCheck ? macSpoofRefs({ port: made.hostVeth, mac: made.containerMac }) : []),
    ...(made.ownAddresses ? ipSpoofRefs(checkedPort(made, made.ownAddresses)) : []),
  ];
}

/**
 * Removes what still belongs to the attachment, in one transaction, and with the last attachment behind an interface what
 * holds for the network.
 */
export async function removeElements(host: PluginHost, key: AttachmentKey, made: Made): Promise<void> {
  const owner = ownerOf(key);
  const removals = attachmentRefs(made).map((ref) => ({ ref, owner }));
  const { device, policy } = made;
  const mayHavePolicy = removals.length > 0 || (policy && policyNumber(policy) !== 0);
  // Where nothing was made, there may be no nf_tables to be asked. What held for the network before its configuration was
  // changed may have been settled by this attachment, though.
  if (
    !mayHavePolicy &&
    (!device || (await readPolicyNumber(host.nftables, networkPolicySets, device)) === undefined)
  )
    return;
  await host.nftables.change((view) => {
    const own = stillOwned(view, removals);
    const isBehind = (record: JournalRecord) => {
      const other = decodeMade(record);
      return !other || other.device === device;
    };
    return device && isLastBehind(key, "bridge", host, isBehind)
      ? { remove: [...own, ...presentPolicy(view, networkPolicySets, device)], add: [] }
      : { remove: own, add: [] };
  });
}

function checkedPort({ hostVeth, containerMac }: Made, addresses: readonly IpAddress[]): CheckedPort {
  return { port: hostVeth, mac: containerMac, addresses };
}

/** The sets in which attachments of this plugin have elements. */
export const ownedSets = [
  "masquerade4",
  "masquerade6",
  "snat4",
  "snat6",
  "macChecked",
  "macAllowed",
  ...ipSpoofSets,
] as const satisfies readonly OwnedSetId[];

/**
 * Removes what holds for interfaces that nobody is behind any more.
 * @param leaving an attachment that is being taken back, and is behind none
 */
export async function releasePolicies(host: PluginHost, leaving?: AttachmentKey): Promise<void> {
  await retainPolicies(host.nftables, networkPolicySets, () => devicesInUse(host, leaving));
}

/** Undefined where an ADD or a DEL is under way. */
function devicesInUse(
  { journal }: PluginHost,
  leaving: AttachmentKey | undefined,
): ReadonlySet<string> | undefined {
  const devices = new Set<string>();
  for (const record of journal.list()) {
    if (record.plugin !== "bridge" || isDeepStrictEqual(record.key, leaving)) continue;
    if (record.phase !== "done") return undefined;
    const device = decodeMade(record)?.device;
    if (device) devices.add(device);
  }
  return devices;
}
