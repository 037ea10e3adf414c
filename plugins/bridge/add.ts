import { isDeepStrictEqual } from "node:util";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { newestVersion } from "#cni/version.ts";
import { IpamDelegate } from "#ipam/delegate.ts";
import type { JournalEntry } from "#journal/journal.ts";
import type { AttachmentKey, BeginOptions, Intent } from "#journal/record.ts";
import { asBridge } from "#kernel/bridge.ts";
import { announceAsync } from "#kernel/interface.ts";
import { type Link, readEachLink, removeLink } from "#kernel/link.ts";
import { LinkExistsError } from "#kernel/link-error.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { Undo } from "#kernel/undo.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import { randomMac } from "#net/mac.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeRecord } from "#plugins/departing.ts";
import { hostVethName } from "#plugins/host-veth.ts";
import { refuseLayer2InOldVersion } from "#plugins/interface-arguments.ts";
import { asksThroughInterface } from "#plugins/ip-configuration.ts";
import { isLeftToGc } from "#plugins/last-behind.ts";
import { iptablesOf, releaseSubnets } from "#plugins/masquerade.ts";
import { reportConnected } from "#plugins/network-events.ts";
import { adoptOrClear, interfaceExists, recordedConfig } from "#plugins/repeated-add.ts";
import { type AttachmentInput, describeAttachment } from "./attachment.ts";
import { check } from "./check.ts";
import { type BridgeConfig, parseBridgeConfig } from "./config.ts";
import { attachmentElements, releasePolicies, removeElements } from "./elements.ts";
import { refuseOtherAddresses } from "./gateway.ts";
import { decodeMade, encodeMade, type Made, madeOf } from "./made.ts";
import { applyWithPolicy, dropPolicy } from "./policy.ts";
import { addAddresses, type RealisedLinks, realise, realiseLink } from "./realise.ts";
import { removeAttachment } from "./remove.ts";
import { describeResult } from "./result.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseBridgeConfig(request.config, request.args);
  refuseLayer2InOldVersion(request, config.ipamType);
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const ifName = parseIfName(request.ifName);
  const derived = hostVethName(key);
  const [link, veth] = readEachLink(host.kernel.namespace, [config.bridge, derived]);
  const present = asBridge(link, config.bridge);
  const container = host.kernel.open(request.netns);
  let isAttached = false;
  try {
    const record = host.journal.read(key, "bridge");
    const standing = await adoptOrClear(record, {
      ifName,
      container,
      request,
      host,
      check,
      remove: (before) => removeAttachment(describeRecord(before, request), host),
    });
    if (standing) return standing;
    const hostVeth = record || !veth ? derived : await freeHostVeth(key, host);
    const { links, result } = await attach({
      config,
      key,
      ifName,
      hostVeth,
      present,
      container,
      request,
      host,
    });
    reportConnected(key, result, host);
    isAttached = result.ips.length > 0;
    if (isAttached) announceSoon(container, links.container, host);
    return result;
  } catch (error) {
    if (error instanceof LinkExistsError && error.namespace === container)
      throw interfaceExists(ifName, error);
    throw error;
  } finally {
    if (!isAttached) container.close();
  }
}

/** On a bridge with a thousand ports each neighbour's copy takes two microseconds: nobody need wait for that. */
function announceSoon(container: NetworkNamespace, link: Link, host: PluginHost): void {
  host.afterwards(`announce link ${JSON.stringify(link.name)}`, async () => {
    try {
      await announceAsync(container, link);
    } finally {
      container.close();
    }
  });
}

interface Work {
  readonly config: BridgeConfig;
  readonly key: AttachmentKey;
  readonly ifName: IfName;
  readonly hostVeth: IfName;
  readonly present: Link | undefined;
  readonly container: ReturnType<PluginHost["kernel"]["open"]>;
  readonly request: AddRequest;
  readonly host: PluginHost;
}

async function attach(work: Work): Promise<{ readonly links: RealisedLinks; readonly result: CniResult }> {
  const { key, request, host } = work;
  const ipam = new IpamDelegate(host.runner);
  const input: AttachmentInput = {
    config: work.config,
    key,
    ifName: work.ifName,
    hostVeth: work.hostVeth,
    macs: { host: randomMac(), container: randomMac() },
    ipam: undefined,
  };
  return await Undo.run(async (undo) => {
    const before = madeOf(describeAttachment(input));
    const entry = await begin(work, before, { durable: await ipam.isForeign(request) });
    undo.push("journal record", (failures) => {
      // What could not be taken back is for the next DEL or GC, which needs the record.
      if (failures.length === 0) entry.remove();
    });
    const isAsking = asksThroughInterface(work.config.ipamType);
    const realising = {
      host,
      container: work.container,
      present: work.present,
      gatewayAddresses: undefined,
      signal: request.signal,
      undo,
    };
    const bare = isAsking ? await realiseLink(describeAttachment(input), realising) : undefined;
    const answer = await ipam.add(request);
    if (answer) undo.push(`addresses of IPAM plugin ${work.config.ipamType}`, () => ipam.del(request));
    crashPoint("ipam-answered");
    const attachment = describeAttachment({ ...input, ipam: answer });
    const made = madeOf(attachment);
    if (!isDeepStrictEqual(made, before)) entry.amend(encodeMade(made));
    const gatewayAddresses = attachment.gateway
      ? refuseOtherAddresses(host.kernel.namespace, work.present, attachment.gateway)
      : undefined;
    request.signal.throwIfAborted();
    // Before there is an interface: its first packet finds the rules in place.
    await applyElements(made, work, undo);
    const complete = { ...realising, gatewayAddresses };
    const links = bare ? await addAddresses(attachment, bare, complete) : await realise(attachment, complete);
    request.signal.throwIfAborted();
    const result = describeResult(attachment, links, request.netns.path);
    entry.complete(encodeResult(result, newestVersion));
    return { links, result };
  });
}

async function begin({ key, request, host }: Work, made: Made, options: BeginOptions): Promise<JournalEntry> {
  const intent: Intent = {
    key,
    plugin: "bridge",
    netns: request.netns,
    config: recordedConfig(request),
    args: request.args,
    made: encodeMade(made),
  };
  return await host.journal.begin(intent, options);
}

/** For when there is a link of the derived name. Two attachments may derive the same: one pair in 2^32. */
async function freeHostVeth(key: AttachmentKey, host: PluginHost): Promise<IfName> {
  const name = hostVethName(key);
  for (const record of host.journal.each()) {
    if (decodeMade(record)?.hostVeth === name) return hostVethName(key, 1);
  }
  // A leftover of this very attachment, from before somebody removed the journal.
  await removeLink(host.kernel.namespace, name);
  return name;
}

async function applyElements(made: Made, { key, request, host }: Work, undo: Undo): Promise<void> {
  const elements = attachmentElements(made, key);
  if (elements.length > 0) {
    undo.push("nftables elements", async () => {
      // Who leaves at the same time need not wait for this one.
      host.journal.leave(key, "bridge");
      await removeElements(host, key, made);
      if (isLeftToGc(host)) return;
      await releaseSubnets(host, key);
      await releasePolicies(host, key);
    });
    await applyWithPolicy(elements, { key, made, host });
    crashPoint("elements-added");
  } else {
    // Should all others leave meanwhile, it is this one that has to take away what holds for the network.
    undo.push("nftables elements", async () => {
      host.journal.leave(key, "bridge");
      await removeElements(host, key, made);
    });
    await dropPolicy({ key, made, host });
  }
  if (made.masqueradeBackend !== "iptables" || made.masquerade.length === 0) return;
  const iptables = await iptablesOf(host, request.environment);
  const attachment = { network: key.network, containerId: key.containerId, addresses: made.masquerade };
  undo.push("iptables rules", () => iptables.remove(attachment));
  await iptables.add(attachment);
  crashPoint("iptables-added");
}
