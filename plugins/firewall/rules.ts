import { CniError, ErrorCode } from "#cni/error.ts";
import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { formatIp } from "#net/ip.ts";
import { isPolicyConflict, presentPolicy, readPolicyNumber, replacePolicy } from "#nftables/device-policy.ts";
import type { Operation } from "#nftables/element.ts";
import {
  admittedElements,
  admittedRefs,
  ingressElements,
  ingressNumber,
  ingressPolicySets,
} from "#nftables/ingress-policy.ts";
import type { IptablesFirewall, IptablesIngress } from "#nftables/iptables/firewall.ts";
import { stillOwned } from "#nftables/nftables.ts";
import type { PluginHost } from "#plugins/context.ts";
import { isLastBehind } from "#plugins/last-behind.ts";
import { ownerOf } from "#plugins/masquerade.ts";
import { Firewalld } from "./firewalld.ts";
import { decodeMade, type Made } from "./made.ts";
import { alone } from "./policy-turn.ts";

/**
 * The rules of one attachment: elements of the suite's sets, or the reference's chains of iptables, or sources of a zone
 * of firewalld's.
 */
export interface Rules {
  readonly key: AttachmentKey;
  readonly made: Made;
  readonly host: PluginHost;
}

/** Elements of the suite's sets that the attachment needs. */
export function elementsOf(made: Made, key: AttachmentKey): readonly Operation[] {
  const { backend, addresses } = made;
  if (backend === "iptables") return [];
  return [...ingressPart(made), ...(backend === "nftables" ? admittedElements(addresses, ownerOf(key)) : [])];
}

/** What holds for the whole bridge. */
function ingressPart({ device, ingressPolicy }: Made): readonly Operation[] {
  return device && ingressPolicy !== "open" ? ingressElements(device, ingressPolicy) : [];
}

function iptablesIngress({ device, ingressPolicy }: Made): IptablesIngress | undefined {
  return device && ingressPolicy !== "open" ? { device, policy: ingressPolicy } : undefined;
}

function admission({ addresses, adminChain }: Made, key: AttachmentKey) {
  return { addresses, adminChain, owner: ownerOf(key) };
}

async function iptablesOf(host: PluginHost): Promise<IptablesFirewall> {
  const { IptablesFirewall } = await import("#nftables/iptables/firewall.ts");
  return new IptablesFirewall({ namespacePath: host.kernel.namespace.path });
}

/** Each is a policy out of the way, or somebody else who was faster. */
const maxAttempts = 8;

/** @throws {CniError} 7 where another network that is in use wants something else of the same bridge */
export async function addElements(rules: Rules): Promise<void> {
  const { key, made, host } = rules;
  if (made.backend === "iptables") return;
  if (ingressPart(made).length === 0) await dropPolicy(rules);
  const elements = elementsOf(made, key);
  const add = async (settle: () => Promise<void>) => {
    for (let attempt = 1; ; attempt++) {
      try {
        await host.nftables.apply(elements);
        return;
      } catch (error) {
        if (!isPolicyConflict(error, ingressPolicySets) || attempt === maxAttempts) throw error;
        await settle();
      }
    }
  };
  const settle = () => settlePolicy(rules);
  const hasOwn = made.backend === "nftables" && made.addresses.length > 0;
  if (hasOwn || elements.length === 0) await add(() => alone(host, settle));
  else await alone(host, () => add(settle));
}

/** Of a bridge that had one before its configuration was changed. */
async function dropPolicy(rules: Rules): Promise<void> {
  const { made, host } = rules;
  if (!made.device) return;
  const present = await readPolicyNumber(host.nftables, ingressPolicySets, made.device);
  if (present !== undefined) await alone(host, () => settlePolicy(rules));
}

async function settlePolicy({ key, made, host }: Rules): Promise<void> {
  const { device } = made;
  if (!device) return;
  const agree = () => refuseRivals({ key, made, host });
  await replacePolicy(host.nftables, ingressPolicySets, { device, elements: ingressPart(made), agree });
}

/** Those that leave want nothing any more. */
function refuseRivals({ key, made, host }: Rules): void {
  const { device, ingressPolicy } = made;
  for (const record of host.journal.each()) {
    if (record.key.network === key.network || record.plugin !== "firewall") continue;
    if (record.phase === "torn" || record.phase === "leaving" || record.bootId !== host.bootId) continue;
    const other = decodeMade(record);
    if (!other || other.device !== device || numberOf(other) === numberOf(made)) continue;
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use "ingressPolicy" ${JSON.stringify(ingressPolicy)} for ${JSON.stringify(device)} in network ${JSON.stringify(key.network)}: network ${JSON.stringify(record.key.network)} has container ${JSON.stringify(record.key.containerId)} on it with ${JSON.stringify(other.ingressPolicy)}`,
    );
  }
}

function numberOf({ ingressPolicy }: Made): number {
  return ingressPolicy === "open" ? 0 : ingressNumber(ingressPolicy);
}

/** Makes what is not in the suite's own sets. @throws {ProgramError} @throws {FirewalldError} */
export async function addOwnRules({ key, made, host }: Rules): Promise<void> {
  if (made.backend === "iptables") {
    const iptables = await iptablesOf(host);
    await iptables.admit(admission(made, key));
    const ingress = iptablesIngress(made);
    if (ingress) await alone(host, () => iptables.restrict(ingress));
    crashPoint("firewall-iptables-added");
  } else if (made.backend === "firewalld") {
    await new Firewalld(host.systemBus).addSources(made.zone, made.addresses);
  }
}

/** What of that is not there, in words. */
export async function missingOwnRules({ key, made, host }: Rules): Promise<readonly string[]> {
  if (made.backend === "iptables") {
    const missing = await (await iptablesOf(host)).missing(admission(made, key), iptablesIngress(made));
    return missing.map((rule) => `missing: ${rule}`);
  }
  if (made.backend === "nftables") return [];
  return await new Firewalld(host.systemBus).misplaced(made.zone, made.addresses);
}

/** Takes all of it away, as far as it is still this attachment's, and with the last one what holds for the bridge. */
export async function removeRules({ key, made, host }: Rules): Promise<void> {
  const { backend, addresses, device, ingressPolicy } = made;
  const isLast = () =>
    device !== undefined && isLastBehind(key, "firewall", host, (record) => isBehind(record, device));
  if (backend === "iptables") {
    const iptables = await iptablesOf(host);
    await iptables.dismiss(admission(made, key));
    if (device && ingressPolicy !== "open" && isLast()) {
      await alone(host, async () => {
        if (!isLast()) return;
        crashPoint("firewall-last");
        await iptables.release(device);
      });
    }
    crashPoint("firewall-iptables-removed");
    return;
  }
  if (backend === "firewalld") await leaveZone(made, key, host);
  const owner = ownerOf(key);
  const removals = admittedRefs(addresses).map((ref) => ({ ref, owner }));
  const remove = () =>
    host.nftables.change((view) => {
      const own = stillOwned(view, removals);
      const policy = device && isLast() ? presentPolicy(view, ingressPolicySets, device) : [];
      return { remove: [...own, ...policy], add: [] };
    });
  // Who stays or comes in between keeps the policy: it is asked once more in there.
  if (isLast()) await alone(host, remove);
  else await host.nftables.change((view) => ({ remove: stillOwned(view, removals), add: [] }));
}

/**
 * A source has no owner: what another attachment has got meanwhile stays. That one's record is there before its sources,
 * so whoever comes in between is seen afterwards.
 */
async function leaveZone({ zone, addresses }: Made, key: AttachmentKey, host: PluginHost): Promise<void> {
  const firewalld = new Firewalld(host.systemBus);
  const before = sourcesOfOthers(zone, key, host);
  const own = addresses.filter((address) => !before.has(formatIp(address)));
  await firewalld.removeSources(zone, own);
  crashPoint("firewall-sources-removed");
  const after = sourcesOfOthers(zone, key, host);
  const taken = own.filter((address) => after.has(formatIp(address)));
  if (taken.length > 0) await firewalld.addSources(zone, taken);
}

function sourcesOfOthers(zone: string, key: AttachmentKey, host: PluginHost): ReadonlySet<string> {
  const found = new Set<string>();
  for (const record of host.journal.each()) {
    const { network, containerId, ifName } = record.key;
    if (network === key.network && containerId === key.containerId && ifName === key.ifName) continue;
    if (record.plugin !== "firewall" || record.phase === "torn" || record.phase === "leaving") continue;
    const other = decodeMade(record);
    if (other?.backend !== "firewalld" || other.zone !== zone || record.bootId !== host.bootId) continue;
    for (const address of other.addresses) found.add(formatIp(address));
  }
  return found;
}

function isBehind(record: JournalRecord, device: string): boolean {
  const other = decodeMade(record);
  return !other || other.device === device;
}

/** @throws {Error} where the backend's program is missing or the kernel refuses, or the service does not answer */
export async function rulesUsable(backend: Made["backend"], host: PluginHost): Promise<void> {
  if (backend === "iptables") await (await iptablesOf(host)).usable();
  else await host.nftables.usable();
  if (backend === "firewalld") await new Firewalld(host.systemBus).usable();
}
