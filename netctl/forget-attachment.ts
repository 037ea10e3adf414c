import { parseConfList } from "#cni/conflist.ts";
import type { KnownAttachment } from "#runtime/attachments.ts";
import type { CachedAttachment } from "#runtime/cache.ts";
import { delNetworkList, targetOf } from "#runtime/chain.ts";
import type { Network } from "./network/listing.ts";
import type { World } from "./world.ts";

/**
 * DEL for an attachment whose container has gone, and whose runtime will not ask for it any more: with the network as it
 * was at the ADD, as far as that is known.
 * @throws {ChainFailure}
 */
export async function forgetAttachment(
  network: Network,
  { containerId, ifName }: Pick<KnownAttachment, "containerId" | "ifName">,
  world: World,
): Promise<void> {
  const cached = (await world.chain.cache.list(network.name)).find(
    (each) => each.containerId === containerId && each.ifName === ifName,
  );
  const target =
    cached === undefined
      ? { containerId, ifName, netns: "", args: [], capabilityArgs: {} }
      : { ...targetOf(cached), netns: "" };
  await delNetworkList(listAtAdd(cached) ?? network.configured.list, target, world.chain);
}

/** The network as it was at the ADD; undefined where that was not kept, or is damaged. */
export function listAtAdd(cached: CachedAttachment | undefined) {
  try {
    return cached === undefined ? undefined : parseConfList(cached.config);
  } catch {
    return undefined;
  }
}
