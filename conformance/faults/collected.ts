import { expectEqual } from "#conformance/failure.ts";
import { allFollowUps, type FollowUp, followUps } from "./follow-up.ts";
import { attempt, casesOf } from "./killed.ts";
import type { Mode, Scenario, ScenarioBench } from "./kit.ts";
import { readPoints } from "./points.ts";
import { World } from "./world.ts";

export const collectedScenarios: readonly Scenario[] = [
  { name: "GC killed", run: (bench) => killCollection(bench, "standalone") },
  { name: "netd killed during GC", run: (bench) => killCollection(bench, "netd") },
];

/** The GC of one forgotten container is killed at every point; another verb gets it done. */
async function killCollection(bench: ScenarioBench, mode: Mode): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode, hasBystanders: true });
  try {
    const trace = `${world.directory}/trace`;
    const model = await world.container();
    await world.attach(model);
    world.forget(model);
    await world.collect({ trace });
    const points = readPoints(trace);
    for (const { point, way } of casesOf<FollowUp>(points, allFollowUps, bench.kit.isFull)) {
      const reason = await attempt(async () => {
        if (mode === "netd" && world.netd?.isRunning !== true) await world.startNetd();
        const container = await world.container();
        await world.attach(container);
        world.forget(container);
        const isWhole = ["launcher/netd-lost", "launcher/standalone"];
        const reply = await world.callCollection({
          crashAt: mode === "netd" ? [point, ...isWhole] : [point],
        });
        expectEqual(reply.completed.signal, "SIGKILL", "GC's end");
        if (mode === "netd") expectEqual(await world.netd?.ended(), "SIGKILL", "netd's end");
        await followUps[way](world, container, {});
        await container.namespace.remove();
      });
      bench.note(point, way, reason);
    }
    await world.finish();
  } finally {
    await world.close();
  }
}
