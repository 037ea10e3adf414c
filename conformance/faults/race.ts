import { existsSync, rmSync } from "node:fs";
import { expect } from "#conformance/failure.ts";
import type { Reply } from "#conformance/reply.ts";
import { attempt } from "./killed.ts";
import { type Mode, pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { isStopped } from "./netd-process.ts";
import { tracePoints } from "./points.ts";
import { type Container, World } from "./world.ts";

export const raceScenarios: readonly Scenario[] = [
  { name: "DEL races ADD", run: (bench) => race(bench, "standalone", fromStandstill) },
  { name: "DEL races ADD in netd", run: (bench) => race(bench, "netd", afterDelay) },
];

const shortRounds = { standalone: 15, netd: 30 } as const;

/** Begins an ADD and a DEL of it while it runs. @returns both replies, and how they met */
type Meeting = (
  world: World,
  container: Container,
  points: readonly string[],
) => Promise<{ readonly how: string; readonly added: Reply; readonly deleted: Reply }>;

/** DEL comes while ADD is at it, at a random moment: afterwards nothing is left, and one more ADD works. */
async function race(bench: ScenarioBench, mode: Mode, meet: Meeting): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode, hasBystanders: true });
  try {
    const model = await world.container();
    const points = await tracePoints(world, "ADD", model);
    await world.detach(model);
    const rounds = bench.kit.isFull ? 100 : shortRounds[mode];
    for (let round = 0; round < rounds; round++) {
      let fault = `round ${round}`;
      const reason = await attempt(async () => {
        const container = await world.container();
        const { how, added, deleted } = await meet(world, container, points);
        fault = how;
        deleted.expectSilence();
        if (added.succeeded) added.expectJson();
        else added.expectError();
        await world.expectConsistent(container);
        await world.attach(container);
        await world.expectConsistent(container);
        await world.expectWorking(container);
        await world.detach(container);
        await container.namespace.remove();
      });
      bench.note(fault, "ADD", reason);
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

/** Longer than an ADD in netd takes on a machine that is not busy. */
const longestAddMs = 12;

async function afterDelay(world: World, container: Container): ReturnType<Meeting> {
  const trace = `${world.directory}/trace`;
  rmSync(trace, { force: true });
  const delayMs = Math.random() * longestAddMs;
  const adding = world.call("ADD", container, { trace });
  await eventuallyThere(trace);
  await pause(delayMs);
  const [added, deleted] = await Promise.all([adding, world.call("DEL", container)]);
  return { how: `DEL ${delayMs.toFixed(1)} ms after ADD began`, added, deleted };
}

/** Longer than a process needs to start. */
const longestStartMs = 300;

/**
 * A process of its own starts for longer than its ADD takes, so that two would hardly ever meet: ADD stands still at a
 * random point, and goes on when DEL has come as far as a random moment lets it.
 */
async function fromStandstill(
  world: World,
  container: Container,
  points: readonly string[],
): ReturnType<Meeting> {
  const point = points[Math.floor(Math.random() * points.length)] ?? "";
  const delayMs = Math.random() * longestStartMs;
  let processId = 0;
  const adding = world.call("ADD", container, { stopAt: [point], onStart: (id) => (processId = id) });
  const until = Date.now() + 20_000;
  while (!isStopped(processId)) {
    expect(Date.now() < until, `ADD did not come to ${point}`);
    await pause(2);
  }
  const deleting = world.call("DEL", container);
  await pause(delayMs);
  process.kill(processId, "SIGCONT");
  const [added, deleted] = await Promise.all([adding, deleting]);
  return { how: `DEL ${delayMs.toFixed(0)} ms before ADD goes on from ${point}`, added, deleted };
}

/** ADD has passed its first point: from now on a DEL comes after it. */
async function eventuallyThere(trace: string): Promise<void> {
  const until = Date.now() + 20_000;
  while (!existsSync(trace)) {
    expect(Date.now() < until, "ADD did not begin");
    await pause(1);
  }
}
