import { listConnections } from "#kernel/conntrack.ts";
import { formatIp } from "#net/ip.ts";
import type { World } from "#netctl/world.ts";

/** How many connections the host tracks for each address, begun or answered by it; null where the kernel can't tell, or this process may not ask. */
export async function countConnections({ kernel }: World): Promise<Readonly<Record<string, number>> | null> {
  try {
    const counts: Record<string, number> = {};
    for (const { from, to } of await listConnections(kernel.namespace))
      for (const address of new Set([formatIp(from), formatIp(to)]))
        counts[address] = (counts[address] ?? 0) + 1;
    return counts;
  } catch {
    return null;
  }
}
