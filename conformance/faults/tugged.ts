import { attempt } from "./killed.ts";
import { pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { type CallOptions, type Container, World } from "./world.ts";

/**
 * Others take rules away, netd and `netctl repair` put them back, and containers come and go all the while, in netd and
 * in processes of their own: what was put back for one that has gone must be gone too.
 */
export const tuggedScenarios: readonly Scenario[] = [
  { name: "rules flushed and put back while containers come and go", run: (bench) => tug(bench, {}) },
  {
    name: "rules flushed and put back while containers come and go, netd killed again and again",
    run: (bench) => tug(bench, { isKilling: true }),
  },
];

interface Tug {
  readonly isKilling?: boolean;
}

const atOnce = 6;
const longestPauseMs = 40;
const rounds = { full: 25, quick: 1 } as const;
const pairsPerRound = 24;

const alone: CallOptions = { environment: { NETCTL_STANDALONE: "1" } };
const flushes = [
  "nft flush ruleset",
  "nft delete table inet netctl 2>/dev/null || true",
  "for set in masquerade4 masquerade6 mac_checked; do nft flush set inet netctl $set; done 2>/dev/null || true",
];

async function tug(bench: ScenarioBench, { isKilling = false }: Tug): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", chained: "portmap" });
  try {
    // One that stays, so that there is always something to be put back.
    await world.attach(await world.container());
    await world.expectConsistent();
    const containers: Container[] = [];
    for (let each = 0; each < atOnce; each++) containers.push(await world.container());
    const count = bench.kit.isFull ? rounds.full : rounds.quick;
    for (let round = 1; round <= count; round++) {
      const reason = await attempt(async () => {
        const end = new AbortController();
        const trouble = [
          again(end.signal, () => flush(world)),
          again(end.signal, async () => void (await world.netctl("repair"))),
          ...(isKilling ? [again(end.signal, () => killOnce(world))] : []),
        ];
        try {
          await Promise.all(containers.map((container) => comeAndGo(world, container)));
        } finally {
          end.abort();
          await Promise.all(trouble);
        }
        if (world.netd?.isRunning !== true) await world.startNetd();
        await world.expectSettled(undefined, 30_000);
      });
      bench.note(`round ${round}: ${pairsPerRound} pairs of ADD and DEL, ${atOnce} at a time`, "", reason);
      if (reason !== "") return;
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

/** Not so often that an ADD, which loads the rules where it finds none, meets a flush each time that it does. */
async function flush(world: World): Promise<void> {
  await pause(100 + Math.random() * 200);
  await world.run(flushes[random(flushes.length)] ?? "");
}

async function killOnce(world: World): Promise<void> {
  await pause(300);
  await world.netd?.kill();
  await world.startNetd();
}

async function comeAndGo(world: World, container: Container): Promise<void> {
  const options = () => (Math.random() < 0.5 ? alone : {});
  for (let pair = 0; pair < pairsPerRound / atOnce; pair++) {
    await pause(Math.random() * longestPauseMs);
    await world.attach(container, options());
    await pause(Math.random() * longestPauseMs);
    await world.detach(container, options());
  }
}

async function again(signal: AbortSignal, action: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await pause(Math.random() * longestPauseMs);
    await action();
  }
}

function random(below: number): number {
  return Math.floor(Math.random() * below);
}
