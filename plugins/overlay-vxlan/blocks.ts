import { setTimeout as sleep } from "node:timers/promises";
import { type Cidr, parseCidr } from "#net/cidr.ts";
import { addressesIn } from "#overlay/block.ts";
import type { LocalNetwork, LocalNetworks } from "#overlay/local-network.ts";

const claimPollMs = 50;

/** Each subnet's family has a block on this host. */
export function hasAllFamilies({ subnets, blocks }: LocalNetwork): boolean {
  const families = (texts: readonly string[]) => new Set(texts.map((text) => parseCidr(text).address.family));
  const present = families(blocks);
  return [...families(subnets)].every((family) => present.has(family));
}

/** A family of which no address is left on this host. */
export function fullFamily(networks: LocalNetworks, { name, blocks }: LocalNetwork): 4 | 6 | undefined {
  const cidrs = blocks.map(parseCidr);
  const { counts } = networks.usage(name, cidrs);
  const free = (family: 4 | 6) =>
    cidrs.flatMap((block: Cidr, index) =>
      block.address.family === family ? [addressesIn(block) - (counts[index] ?? 0)] : [],
    );
  return ([4, 6] as const).find((family) => {
    const left = free(family);
    return left.length > 0 && left.every((count) => count <= 0);
  });
}

/** Asks the agent for another block, and waits until there is one, or the time is over. */
export async function untilMoreBlocks(
  networks: LocalNetworks,
  before: LocalNetwork,
  { deadlineMs, signal }: { readonly deadlineMs: number; readonly signal?: AbortSignal },
): Promise<void> {
  networks.want(before.name);
  while (performance.now() < deadlineMs) {
    await sleep(claimPollMs, undefined, signal && { signal });
    const now = networks.read(before.name);
    if (now && now.blocks.length > before.blocks.length) return;
  }
}
