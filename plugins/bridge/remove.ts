import type { DelRequest, NamespaceRef } from "#cni/plugin.ts";
import { IpamDelegate } from "#ipam/delegate.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { readLink, removeLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { Cidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { Attempts, type Departing } from "#plugins/departing.ts";
import { hostVethName } from "#plugins/host-veth.ts";
import { parsedMac } from "#plugins/interface-problems.ts";
import { asksThroughInterface } from "#plugins/ip-configuration.ts";
import { iptablesOf, removeAllElements } from "#plugins/masquerade.ts";
import { reportDisconnected } from "#plugins/network-events.ts";
import { removeReferenceRules } from "#plugins/reference-rules.ts";
import { deviceOf } from "./attachment.ts";
import { parseBridgeConfig } from "./config.ts";
import { ownedSets, removeElements } from "./elements.ts";
import { removeUnusedVlanGateway } from "./gateway.ts";
import { decodeMade, type Made } from "./made.ts";

/**
 * Takes everything away that belongs to the attachment. What is gone already is fine; what can't be removed does not
 * keep the rest. The record goes last, and only if nothing is left, so that it can be tried again.
 * @throws {CniError} with all that went wrong
 */
export async function removeAttachment(departing: Departing, host: PluginHost): Promise<void> {
  const { key, release } = departing;
  const made = decodeMade(departing.record) ?? guessMade(departing);
  const attempts = new Attempts();
  // One whose ADD was killed leaves as well: another that leaves at once need not wait for it.
  if (departing.record && departing.record.phase !== "torn") host.journal.leave(key, "bridge");
  const giveBack = () => new IpamDelegate(host.runner).del(release);
  const isFirst = asksThroughInterface(lenientConfig(release)?.ipamType);
  if (isFirst) await attempts.attempt(giveBack);
  // The kernel takes its time for the links; the rules can go meanwhile. Addresses have to wait for both: whoever gets
  // them next must not meet their last owner.
  await Promise.all([
    attempts.attempt(() => removeLinks(departing, made, host)),
    attempts.attempt(() =>
      departing.record?.phase === "torn"
        ? removeEverything(host, key, made)
        : removeElements(host, key, made),
    ),
  ]);
  if (made.masqueradeBackend === "iptables") {
    const { network, containerId } = key;
    const attachment = { network, containerId, addresses: made.masquerade };
    await attempts.attempt(async () => (await iptablesOf(host, release.environment)).remove(attachment));
    crashPoint("iptables-removed");
  }
  await attempts.attempt(() =>
    removeReferenceRules(departing, host, async (rules) => {
      await rules.removeMasquerade(key);
      await rules.removeSpoofCheck(key);
    }),
  );
  crashPoint("links-and-elements-removed");
  if (!isFirst) await attempts.attempt(giveBack);
  crashPoint("addresses-released");
  const { vlanGateway, hostVeth } = made;
  if (vlanGateway) await attempts.attempt(() => removeUnusedVlanGateway(host, vlanGateway, hostVeth));
  if (attempts.errors.length === 0) await attempts.attempt(() => host.journal.remove(key, "bridge"));
  attempts.throwIfAny(key);
  // One that is gone already, or never came to be, can't leave.
  const { record } = departing;
  if (record !== undefined && record.phase !== "intent") reportDisconnected(key, host);
}

/** For a torn record: what carries the attachment's name, and what holds for a network that it may have been the last of. */
async function removeEverything(host: PluginHost, key: AttachmentKey, guess: Made): Promise<void> {
  await removeAllElements(host, key, ownedSets);
  await removeElements(host, key, guess);
}

/** Without a record: an attachment of before the journal was lost, one of the reference plugin's, or none at all. */
function guessMade({ key, release, prevResult }: Departing): Made {
  const config = lenientConfig(release);
  const inside = prevResult?.interfaces.find(({ name, sandbox }) => name === key.ifName && sandbox);
  const containerMac = parsedMac(inside?.mac);
  const index = inside && prevResult?.interfaces.indexOf(inside);
  const addresses = (prevResult?.ips ?? [])
    .filter((ip) => ip.interface === undefined || ip.interface === index)
    .map(({ address }): Cidr => address);
  return {
    bridge: config?.bridge ?? ("cni0" as IfName),
    ...(config ? { device: deviceOf(config) } : {}),
    hostVeth: hostVethName(key),
    hostMac: containerMac,
    containerMac,
    masquerade: addresses,
    masqueradeBackend: config?.masquerade ?? "nftables",
    macSpoofCheck: inside?.mac !== undefined,
    snat: addresses.map(({ address }) => ({ address, to: address })),
    ownAddresses: addresses.map(({ address }) => address),
  };
}

function lenientConfig(release: DelRequest) {
  try {
    return parseBridgeConfig(release.config);
  } catch {
    // A DEL goes on with a configuration that would not do for an ADD.
    return undefined;
  }
}

async function removeLinks(departing: Departing, made: Made, host: PluginHost): Promise<void> {
  await removeLink(host.kernel.namespace, made.hostVeth);
  if (decodeMade(departing.record) === undefined && departing.netns) {
    await removeForeignLink(departing, departing.netns, made, host);
  }
}

/** The veth of an attachment that has no record, if it is certain that it is this one's. */
async function removeForeignLink(
  { key, prevResult }: Departing,
  netns: NamespaceRef,
  made: Made,
  host: PluginHost,
): Promise<void> {
  let container: NetworkNamespace;
  try {
    container = host.kernel.open(netns);
  } catch (error) {
    // It went between being looked at and being opened, with all that was in it.
    if (error instanceof NamespaceError) return;
    throw error;
  }
  try {
    const link = readLink(container, key.ifName as IfName);
    if (link?.kind !== "veth") return;
    const isNamed =
      prevResult?.interfaces.some(({ name, sandbox }) => name === key.ifName && sandbox) ?? false;
    if (isNamed || leadsToBridge(link, made, host)) await removeLink(container, link.ifindex);
  } finally {
    container.close();
  }
}

/** True if the other end is a port of this network's bridge that no other attachment has recorded as its own. */
function leadsToBridge(
  link: { readonly ifindex: number; readonly parent?: number | undefined },
  made: Made,
  host: PluginHost,
): boolean {
  const { namespace } = host.kernel;
  const peer = link.parent === undefined ? undefined : readLink(namespace, link.parent);
  if (peer?.kind !== "veth" || peer.parent !== link.ifindex || peer.master === undefined) return false;
  if (readLink(namespace, peer.master)?.name !== made.bridge) return false;
  for (const record of host.journal.each()) if (decodeMade(record)?.hostVeth === peer.name) return false;
  return true;
}
