import { attempt } from "./killed.ts";
import { pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { type CallOptions, type Container, World } from "./world.ts";

interface Crowd {
  readonly isKilling?: boolean;
  /** Each how many-th call is not for netd. */
  readonly standaloneEvery?: number;
}

export const crowdScenarios: readonly Scenario[] = [
  { name: "a crowd of ADDs and DELs at once", run: (bench) => crowd(bench, {}) },
  {
    // Processes of their own and netd work on one network, as while netd starts.
    name: "a crowd of ADDs and DELs at once, a part without netd",
    run: (bench) => crowd(bench, { standaloneEvery: 4 }),
  },
  {
    name: "a crowd of ADDs and DELs at once, netd killed again and again",
    run: (bench) => crowd(bench, { isKilling: true }),
  },
];

const atOnce = 32;
/** A bridge takes 1,023 ports; so many containers may be attached at once, and the others come and go. */
const stayShare = 0.4;

async function crowd(bench: ScenarioBench, { isKilling = false, standaloneEvery }: Crowd): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
  const isPlain = !isKilling && standaloneEvery === undefined;
  const count = bench.kit.isFull ? 1000 : isPlain ? 100 : 50;
  try {
    const containers: Container[] = [];
    for (let each = 0; each < count; each++) containers.push(await world.container());
    const stop = isKilling ? killAgainAndAgain(world) : undefined;
    const failures = await comeAndGo(world, containers, optionsOf(standaloneEvery));
    const kills = await stop?.();
    for (const { fault, reason } of failures) bench.note(fault, "", reason);
    const what = `${count} containers, ${atOnce} at a time${kills === undefined ? "" : `, ${kills} kills`}`;
    const reason = await attempt(() => world.expectConsistent());
    bench.note(what, "", reason);
    if (reason === "" && failures.length === 0) await world.finish();
  } finally {
    await world.close();
  }
}

function optionsOf(standaloneEvery: number | undefined): () => CallOptions {
  let calls = 0;
  return () => {
    calls++;
    const isAlone = standaloneEvery !== undefined && calls % standaloneEvery === 0;
    return isAlone ? { environment: { NETCTL_STANDALONE: "1" } } : {};
  };
}

/** All are attached, and some of them detached at once. @returns what went wrong */
async function comeAndGo(
  world: World,
  containers: readonly Container[],
  options: () => CallOptions,
): Promise<readonly { readonly fault: string; readonly reason: string }[]> {
  const waiting = [...containers];
  const failures: { fault: string; reason: string }[] = [];
  const work = async () => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const container = next;
      const reason = await attempt(async () => {
        // An address that somebody has already fails here.
        await world.attach(container, options());
        if (Math.random() >= stayShare) await world.detach(container, options());
      });
      if (reason !== "") failures.push({ fault: container.id, reason });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return failures;
}

/** Kills netd at random moments and starts another. @returns what ends that, and tells how often it was */
function killAgainAndAgain(world: World): () => Promise<number> {
  const end = new AbortController();
  let kills = 0;
  const killing = (async () => {
    while (!end.signal.aborted) {
      await pause(50 + Math.random() * 250);
      await world.netd?.kill();
      kills++;
      await world.startNetd();
    }
  })();
  return async () => {
    end.abort();
    await killing;
    return kills;
  };
}
