import { existsSync, rmSync } from "node:fs";
import { expect } from "#conformance/failure.ts";
import { attempt } from "./killed.ts";
import { type Mode, pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { World } from "./world.ts";

export const raceScenarios: readonly Scenario[] = [
  { name: "DEL races ADD", run: (bench) => race(bench, "standalone") },
  { name: "DEL races ADD in netd", run: (bench) => race(bench, "netd") },
];

const shortRounds = { standalone: 10, netd: 30 } as const;

/** Longer than an ADD takes in that mode on a machine that is not busy. */
const longestDelayMs = { standalone: 60, netd: 12 } as const;

/** DEL comes while ADD is at it, at a random moment: afterwards nothing is left, and one more ADD works. */
async function race(bench: ScenarioBench, mode: Mode): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode, hasBystanders: true });
  const trace = `${world.directory}/trace`;
  try {
    const rounds = bench.kit.isFull ? 100 : shortRounds[mode];
    for (let round = 0; round < rounds; round++) {
      const delayMs = Math.random() * longestDelayMs[mode];
      const reason = await attempt(async () => {
        const container = await world.container();
        rmSync(trace, { force: true });
        const adding = world.call("ADD", container, { trace });
        await eventuallyThere(trace);
        await pause(delayMs);
        const deleting = world.call("DEL", container);
        const [added, deleted] = await Promise.all([adding, deleting]);
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
      bench.note(`DEL ${delayMs.toFixed(1)} ms after ADD began`, "ADD", reason);
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

/** ADD has passed its first point: from now on a DEL comes after it. */
async function eventuallyThere(trace: string): Promise<void> {
  const until = Date.now() + 20_000;
  while (!existsSync(trace)) {
    expect(Date.now() < until, "ADD did not begin");
    await pause(1);
  }
}
