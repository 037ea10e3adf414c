import { expect, expectEqual } from "#conformance/failure.ts";
import { restart } from "./follow-up.ts";
import { attempt } from "./killed.ts";
import type { Scenario, ScenarioBench } from "./kit.ts";
import { readPoints } from "./points.ts";
import { type Container, World } from "./world.ts";

export const recoveryScenarios: readonly Scenario[] = [
  { name: "netd killed while it recovers", run: killRecovery },
];

/** Killed in the middle of an ADD, and once more while it cleans up after that; the third one gets it done. */
async function killRecovery(bench: ScenarioBench): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
  try {
    const model = await killed(world);
    const trace = `${world.directory}/recovery`;
    const first = await world.startNetd({ environment: { NETCTL_FAULT_TRACE: trace } });
    const points = readPoints(trace);
    expect(points.length > 0, "netd had nothing to clean up");
    await first.kill();
    await restart(world, model);
    for (const point of points) {
      const reason = await attempt(async () => {
        const container = await killed(world);
        const netd = world.spawnNetd({ environment: { NETCTL_CRASH_AT: point } });
        expectEqual(await netd.ended(), "SIGKILL", "netd's end");
        await restart(world, container);
        await container.namespace.remove();
      });
      bench.note(point, "restart", reason);
      if (world.netd?.isRunning !== true) await world.startNetd();
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

/** Somebody's ADD that netd has made nearly all of when it is killed, launcher and all. */
async function killed(world: World): Promise<Container> {
  const container = await world.container();
  const crashAt = ["netd/all-made", "launcher/netd-lost", "launcher/standalone"];
  await world.call("ADD", container, { crashAt });
  expectEqual(await world.netd?.ended(), "SIGKILL", "netd's end");
  return container;
}
