import { attempt } from "./killed.ts";
import type { Scenario, ScenarioBench } from "./kit.ts";
import { type Container, World } from "./world.ts";

export const crowdScenarios: readonly Scenario[] = [
  { name: "a crowd of ADDs and DELs at once", run: (bench) => crowd(bench, 1) },
  // Processes of their own and netd work on one network, as while netd starts.
  { name: "a crowd of ADDs and DELs at once, a part without netd", run: (bench) => crowd(bench, 4) },
];

const atOnce = 32;
/** A bridge takes 1,023 ports; so many containers may be attached at once, and the others come and go. */
const stayShare = 0.4;

/** @param standaloneEvery each how many-th call is not for netd; 1 means none */
async function crowd(bench: ScenarioBench, standaloneEvery: number): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
  const count = bench.kit.isFull ? 1000 : 100;
  try {
    const waiting: Container[] = [];
    for (let each = 0; each < count; each++) waiting.push(await world.container());
    let calls = 0;
    const options = () =>
      standaloneEvery > 1 && ++calls % standaloneEvery === 0
        ? { environment: { NETCTL_STANDALONE: "1" } }
        : {};
    let failed = 0;
    const work = async () => {
      for (let container = waiting.pop(); container !== undefined; container = waiting.pop()) {
        const subject = container;
        const reason = await attempt(async () => {
          // An address that somebody has already fails here.
          await world.attach(subject, options());
          if (Math.random() < stayShare) return;
          await world.detach(subject, options());
        });
        if (reason === "") continue;
        failed++;
        bench.note(subject.id, "", reason);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, work));
    bench.note(`${count} containers, ${atOnce} at a time`, "", await attempt(() => world.expectConsistent()));
    if (failed === 0) await world.finish();
  } finally {
    await world.close();
  }
}
