import { expect, expectEqual } from "#conformance/failure.ts";
import { allFollowUps, followUps } from "./follow-up.ts";
import { attempt, casesOf } from "./killed.ts";
import type { Scenario, ScenarioBench } from "./kit.ts";
import { type AttachmentVerb, tracePoints } from "./points.ts";
import { type Container, World } from "./world.ts";

/** The launcher's own points, in order; the same for every verb. */
const launcherPoints = ["connected", "sent", "accepted", "before-print"].map((name) => `launcher/${name}`);

export const callerGoneScenarios: readonly Scenario[] = [
  { name: "launcher killed during ADD", run: (bench) => killLauncher(bench, "ADD") },
  { name: "launcher killed during DEL", run: (bench) => killLauncher(bench, "DEL") },
  { name: "launcher killed while netd is in the middle of ADD", run: (bench) => leaveNetd(bench, "ADD") },
  { name: "launcher killed while netd is in the middle of DEL", run: (bench) => leaveNetd(bench, "DEL") },
];

/** The launcher dies at each of its own points; what comes next may find netd at work still. */
async function killLauncher(bench: ScenarioBench, verb: AttachmentVerb): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
  try {
    for (const { point, way } of casesOf(launcherPoints, allFollowUps, true)) {
      const reason = await attempt(async () => {
        const container = await world.container();
        await prepare(world, verb, container);
        const reply = await world.call(verb, container, { crashAt: [point] });
        expectEqual(reply.completed.signal, "SIGKILL", `${verb}'s end`);
        await followUps[way](world, container, {});
        await container.namespace.remove();
      });
      bench.note(`${verb}: ${point}`, way, reason);
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

async function prepare(world: World, verb: AttachmentVerb, container: Container): Promise<void> {
  if (verb === "ADD") return;
  await world.attach(container);
  world.forget(container);
}

/** netd stands still at a point, its caller dies, netd goes on: an ADD is taken back, a DEL may be done or not. */
async function leaveNetd(bench: ScenarioBench, verb: AttachmentVerb): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
  try {
    const model = await world.container();
    const add = await tracePoints(world, "ADD", model);
    const del = await tracePoints(world, "DEL", model);
    for (const point of verb === "ADD" ? add : del) {
      const reason = await attempt(async () => {
        const container = await world.container();
        await prepare(world, verb, container);
        await leaveAt(world, verb, container, point);
        if (verb === "ADD" && !point.endsWith("/before-reply")) await world.expectSettled(container);
        await followUps.ADD(world, container, {});
        await container.namespace.remove();
      });
      bench.note(point, "ADD", reason);
      if (world.netd?.isRunning !== true) await world.startNetd();
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

async function leaveAt(
  world: World,
  verb: AttachmentVerb,
  container: Container,
  point: string,
): Promise<void> {
  const { netd } = world;
  expect(netd !== undefined, "there is no netd");
  let launcher = 0;
  const reply = world.call(verb, container, { stopAt: [point], onStart: (pid) => (launcher = pid) });
  try {
    await netd.stopped();
    process.kill(launcher, "SIGKILL");
    expectEqual((await reply).completed.signal, "SIGKILL", `${verb}'s end`);
  } finally {
    netd.signal("SIGCONT");
    await reply;
  }
}
