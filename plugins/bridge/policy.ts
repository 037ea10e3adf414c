import { CniError, ErrorCode } from "#cni/error.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { isPolicyConflict, readPolicyNumber, replacePolicy } from "#nftables/device-policy.ts";
import type { ElementRef, Operation } from "#nftables/element.ts";
import { ConflictError } from "#nftables/error.ts";
import { networkPolicySets, policyElements, policyNumber } from "#nftables/network-policy.ts";
import type { PluginHost } from "#plugins/context.ts";
import { decodeMade, type Made } from "./made.ts";

interface Work {
  readonly key: AttachmentKey;
  readonly made: Made;
  readonly host: PluginHost;
}

/** Each is another stale element out of the way, or somebody else who was faster. */
const maxAttempts = 8;

/**
 * Adds an attachment's elements, its network's policy among them, in one transaction. A policy that the network had
 * before its configuration was changed is replaced.
 * @throws {CniError} 7 where another network that is in use wants something else of the same interface
 */
export async function applyWithPolicy(elements: readonly Operation[], work: Work): Promise<void> {
  const { nftables } = work.host;
  for (let attempt = 1; ; attempt++) {
    try {
      await nftables.apply(elements);
      return;
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt === maxAttempts) throw error;
      if (isPolicyConflict(error, networkPolicySets)) await settlePolicy(work);
      else await removeStale(error, work);
    }
  }
}

/** For an attachment that needs no element: takes away what the network had before its configuration was changed. */
export async function dropPolicy(work: Work): Promise<void> {
  const { made, host } = work;
  if (!made.device) return;
  const present = await readPolicyNumber(host.nftables, networkPolicySets, made.device);
  if (present !== undefined && present !== 0) await settlePolicy(work);
}

async function settlePolicy({ key, made, host }: Work): Promise<void> {
  const { device, policy } = made;
  if (!device || !policy) return;
  const elements = policyElements(device, policy);
  const agree = () => refuseRivals(device, policyNumber(policy), key, host);
  await replacePolicy(host.nftables, networkPolicySets, { device, elements, agree });
}

/** Those that leave want nothing any more. */
function refuseRivals(device: string, number: number, key: AttachmentKey, host: PluginHost): void {
  for (const record of host.journal.each()) {
    if (record.key.network === key.network || record.phase === "torn" || record.phase === "leaving") continue;
    if (record.bootId !== host.bootId) continue;
    const other = record.plugin === "bridge" ? decodeMade(record) : undefined;
    if (other?.device !== device || !other.policy || policyNumber(other.policy) === number) continue;
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use ${JSON.stringify(device)} for network ${JSON.stringify(key.network)}: network ${JSON.stringify(record.key.network)} has container ${JSON.stringify(record.key.containerId)} on it, and differs in "internal", "icc", "gatewayMode", "networkIsolation" or "trustedInterfaces"`,
    );
  }
}

/** The address is ours: whoever had it before is gone, and has left something behind. */
async function removeStale({ operation }: ConflictError, { host }: Work): Promise<void> {
  const { set, key } = operation;
  await host.nftables.change((view) => {
    const ref = { set, key } as ElementRef;
    return { remove: view.read([ref])[0] ? [ref] : [], add: [] };
  });
}
