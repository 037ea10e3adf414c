import { expectEqual } from "#conformance/failure.ts";
import { allFollowUps, type FollowUp, followUps } from "./follow-up.ts";
import { attempt, casesOf } from "./killed.ts";
import type { Mode, Scenario, ScenarioBench } from "./kit.ts";
import { type AttachmentVerb, tracePoints } from "./points.ts";
import { World } from "./world.ts";

/** Points at which nothing can fail, so that nothing takes back what was done before: a process can only die there. */
const infallible = ["journal-begun", "before-print", "before-reply", "accepted"];

export const failedScenarios: readonly Scenario[] = [
  { name: "steps of ADD fail", run: (bench) => failEach(bench, "standalone", "ADD") },
  { name: "steps of DEL fail", run: (bench) => failEach(bench, "standalone", "DEL") },
  { name: "steps of ADD fail in netd", run: (bench) => failEach(bench, "netd", "ADD") },
  { name: "steps of DEL fail in netd", run: (bench) => failEach(bench, "netd", "DEL") },
  { name: "ADD killed while it takes everything back", run: killRollback },
];

/** A failed ADD says so in one JSON object, and has left nothing when it ends. A failed DEL can be called again. */
async function failEach(bench: ScenarioBench, mode: Mode, verb: AttachmentVerb): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode, hasBystanders: true });
  try {
    const model = await world.container();
    const add = await tracePoints(world, "ADD", model);
    const del = await tracePoints(world, "DEL", model);
    for (const [index, point] of (verb === "ADD" ? add : del).entries()) {
      if (infallible.some((name) => point.endsWith(`/${name}`))) continue;
      const reason = await attempt(async () => {
        const container = await world.container();
        if (verb === "DEL") {
          await world.attach(container);
          world.forget(container);
        }
        (await world.call(verb, container, { failAt: [point] })).expectError({ names: /made-up/ });
        if (verb === "DEL") await followUps.DEL(world, container, {});
        else {
          await world.expectConsistent(container);
          if (bench.kit.isFull || index % 5 === 0) await followUps.ADD(world, container, {});
        }
        await container.namespace.remove();
      });
      bench.note(point, verb === "DEL" ? "DEL" : "ADD", reason);
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

/** The ADD fails when all is made, and is killed at each step of taking it back. */
async function killRollback(bench: ScenarioBench): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "standalone", hasBystanders: true });
  const failAt = ["standalone/all-made"];
  try {
    const all = await tracePoints(world, "ADD", await world.container(), { failAt });
    const points = all.slice(all.indexOf("standalone/all-made") + 1);
    for (const { point, way } of casesOf<FollowUp>(points, allFollowUps, bench.kit.isFull)) {
      const reason = await attempt(async () => {
        const container = await world.container();
        const reply = await world.call("ADD", container, { failAt, crashAt: [point] });
        expectEqual(reply.completed.signal, "SIGKILL", "ADD's end");
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
