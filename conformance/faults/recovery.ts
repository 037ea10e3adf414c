import { expect, expectEqual } from "#conformance/failure.ts";
import { restart } from "./follow-up.ts";
import { attempt } from "./killed.ts";
import { pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { readPoints } from "./points.ts";
import { type Container, World } from "./world.ts";

export const recoveryScenarios: readonly Scenario[] = [
  { name: "netd killed while it recovers", run: killRecovery },
  { name: "ADD again while netd recovers from the first", run: addDuringRecovery },
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

const killedAtOnce = 6;

/** netd has seen which ADDs did not end, and stands still; the runtime makes them again, and they stay. */
async function addDuringRecovery(bench: ScenarioBench): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
  try {
    const reason = await attempt(async () => {
      await world.netd?.kill();
      const alone = { NETCTL_STANDALONE: "1" };
      const containers: Container[] = [];
      for (let each = 0; each < killedAtOnce; each++) {
        const container = await world.container();
        const crashAt = ["standalone/all-made"];
        await world.call("ADD", container, { environment: alone, crashAt });
        containers.push(container);
      }
      const netd = world.spawnNetd({ environment: { NETCTL_STOP_AT: "recovery/locked" } });
      await netd.stopped();
      // Which of them it holds the lock of is not known: that one comes last, when netd goes on.
      const adding = containers.map((container) => world.call("ADD", container, { environment: alone }));
      const done = await Promise.race([Promise.all(adding), pause(3000)]);
      expect(done === undefined, "netd holds no lock while it recovers");
      netd.signal("SIGCONT");
      for (const [index, container] of containers.entries()) {
        const reply = await adding[index];
        expect(reply !== undefined, "there is a reply");
        world.expectAttached(container, reply);
      }
      await netd.ready();
      await world.expectConsistent();
    });
    bench.note(`${killedAtOnce} ADDs`, "ADD", reason);
    if (reason === "") await world.finish();
  } finally {
    world.netd?.signal("SIGCONT");
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
