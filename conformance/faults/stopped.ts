import { expect, expectEqual } from "#conformance/failure.ts";
import { followUps } from "./follow-up.ts";
import { attempt } from "./killed.ts";
import { pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { isStopped, type NetdProcess } from "./netd-process.ts";
import { World } from "./world.ts";

type Step = (world: World, netd: NetdProcess) => Promise<void>;

/** One of its own, so that several can stand still at once. */
function standing(name: string, step: Step): Scenario {
  return {
    name,
    isIdle: true,
    run: async (bench: ScenarioBench) => {
      const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
      try {
        const { netd } = world;
        expect(netd !== undefined, "there is no netd");
        const reason = await attempt(async () => {
          await step(world, netd);
          await world.finish();
        });
        bench.note(name, "", reason);
      } finally {
        world.netd?.signal("SIGCONT");
        await world.close();
      }
    },
  };
}

const longMs = 5_000;

export const stoppedScenarios: readonly Scenario[] = [
  ...["journal-begun", "veth-made", "interface-configured"].map((point) =>
    standing(`netd stopped for 5 s at ${point}: the caller waits`, (world, netd) =>
      waitsFor(world, netd, point),
    ),
  ),
  ...["leases-marked", "veth-made"].map((point) =>
    standing(`netd stopped for 5 s at ${point}, longer than the caller waits`, (world, netd) =>
      waitsInVain(world, netd, point, { NETCTL_TIMEOUT_MS: "1500" }, longMs),
    ),
  ),
  standing("netd stopped while it is idle: callers go on without it", idle),
  standing("netd stopped, a DEL and an ADD without it: the late DEL does nothing", lateDel),
  standing("netd stopped, an ADD and a DEL without it: the late ADD does nothing", lateAdd),
  standing("netd stopped in ADD, and a DEL meanwhile", delMeanwhile),
];

/** Only in a full run: longer than any caller waits by default. */
export const longStopScenarios: readonly Scenario[] = [
  standing("netd stopped for 70 s in the middle of ADD", (world, netd) =>
    waitsInVain(world, netd, "veth-made", {}, 70_000),
  ),
];

async function waitsFor(world: World, netd: NetdProcess, point: string): Promise<void> {
  const container = await world.container();
  const started = performance.now();
  const adding = world.call("ADD", container, { stopAt: [`netd/${point}`] });
  await netd.stopped();
  await pause(longMs);
  netd.signal("SIGCONT");
  world.expectAttached(container, await adding);
  expect(performance.now() - started >= longMs, "ADD did not wait");
  await world.expectConsistent(container);
  await world.expectWorking(container);
}

async function waitsInVain(
  world: World,
  netd: NetdProcess,
  point: string,
  environment: Readonly<Record<string, string>>,
  stopMs: number,
): Promise<void> {
  const container = await world.container();
  const adding = world.call("ADD", container, { stopAt: [`netd/${point}`], environment, timeoutMs: 120_000 });
  await netd.stopped();
  const [reply] = await Promise.all([adding, pause(stopMs)]);
  reply.expectError({ code: 11 });
  netd.signal("SIGCONT");
  await world.expectSettled(container);
  await followUps.ADD(world, container, {});
}

async function idle(world: World, netd: NetdProcess): Promise<void> {
  const container = await world.container();
  await stop(netd);
  await world.attach(container);
  await world.expectConsistent(container);
  await world.expectWorking(container);
  await world.detach(container);
  await world.collect();
  netd.signal("SIGCONT");
  await pause(500);
  await followUps.ADD(world, container, {});
}

async function lateDel(world: World, netd: NetdProcess): Promise<void> {
  const container = await world.container();
  await world.attach(container);
  await stop(netd);
  await world.detach(container);
  await world.attach(container);
  netd.signal("SIGCONT");
  await pause(500);
  await world.expectConsistent(container);
  await world.expectWorking(container);
}

async function lateAdd(world: World, netd: NetdProcess): Promise<void> {
  const container = await world.container();
  await stop(netd);
  await world.attach(container);
  await world.detach(container);
  netd.signal("SIGCONT");
  await pause(500);
  await world.expectConsistent(container);
}

/** The DEL finds no netd that answers, and has to wait for the lock that the standing one holds. */
async function delMeanwhile(world: World, netd: NetdProcess): Promise<void> {
  const container = await world.container();
  const adding = world.call("ADD", container, { stopAt: ["netd/veth-made"] });
  await netd.stopped();
  const deleting = world.call("DEL", container);
  await pause(3000);
  netd.signal("SIGCONT");
  const [added, deleted] = await Promise.all([adding, deleting]);
  deleted.expectSilence();
  if (added.succeeded) added.expectJson();
  else added.expectError();
  await world.expectConsistent(container);
}

async function stop(netd: NetdProcess): Promise<void> {
  netd.signal("SIGSTOP");
  await netd.stopped();
  expectEqual(isStopped(netd.processId), true, "netd stands still");
}
