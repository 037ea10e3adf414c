import { setTimeout as sleep } from "node:timers/promises";
import { readOverlayNetworks } from "#netctl/inspect/overlay-view.ts";
import type { World } from "#netctl/world.ts";
import type { Finding } from "./finding.ts";

/** What the agent mends it has mended by then. */
const graceMs = 1500;
/** Of one network. */
const maxNamed = 3;

/**
 * Ways to other hosts that the engine wants and the kernel does not have, and those that lead to nobody.
 * @param options.isKept the agent runs: what it is about to mend is not told
 */
export async function overlayKernel(
  world: World,
  { isKept }: { readonly isKept: boolean },
): Promise<readonly Finding[]> {
  const first = await differences(world);
  if ([...first.values()].every((each) => each.length === 0)) return [];
  if (isKept) await sleep(graceMs);
  const now = isKept ? await differences(world) : first;
  return [...now].flatMap(([network, all]) => {
    const lasting = all.filter((words) => first.get(network)?.includes(words) === true);
    if (lasting.length === 0) return [];
    const more = lasting.length > maxNamed ? `; and ${lasting.length - maxNamed} more` : "";
    return [
      {
        id: "overlay-kernel",
        severity: "error",
        subject: network,
        evidence: `${lasting.slice(0, maxNamed).join("; ")}${more}`,
        remedy: isKept
          ? "netctl cluster status says what the agent could not do; netctl inspect shows engine and kernel side by side"
          : "start netd, which puts it right: docs/netd.md",
      },
    ];
  });
}

async function differences(world: World): Promise<ReadonlyMap<string, readonly string[]>> {
  const { byName } = await readOverlayNetworks(world);
  return new Map([...byName].map(([name, each]) => [name, each.differences]));
}
