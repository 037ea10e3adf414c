import { expect, expectEqual } from "#conformance/failure.ts";
import { allFollowUps, type FollowUp, followUps, restart } from "./follow-up.ts";
import { type Mode, messageOf, type Scenario, type ScenarioBench } from "./kit.ts";
import { type AttachmentVerb, tracePoints } from "./points.ts";
import { World, type WorldOptions } from "./world.ts";

/** What comes after a kill: in netd's case also netd again, or the launcher that goes on by itself. */
export type WayOn = FollowUp | "restart" | "launcher goes on";

interface Killing extends Pick<Scenario, "name" | "needs"> {
  readonly mode: Mode;
  readonly verb: AttachmentVerb;
  /** A world for each case, and only the points that the first ADD of a host passes. */
  readonly isFresh?: boolean;
  readonly world?: Partial<WorldOptions>;
  /** In place of all. */
  readonly ways?: readonly WayOn[];
  /** All that is new here, for a short run. */
  readonly focus?: RegExp;
}

/** Kills the process that carries out a verb at every point of it. */
function killing(plan: Killing): Scenario {
  const { name, needs } = plan;
  return {
    name,
    ...(needs && { needs }),
    run: (bench) => (plan.isFresh === true ? killFresh(bench, plan) : kill(bench, plan)),
  };
}

/** Nobody answers names without netd, so that no ADD succeeds before it is there again. */
const waysOfNames: readonly WayOn[] = ["restart", "DEL", "restart", "DEL without namespace", "restart", "GC"];

export const killedScenarios: readonly Scenario[] = [
  killing({ name: "ADD killed", mode: "standalone", verb: "ADD" }),
  killing({ name: "DEL killed", mode: "standalone", verb: "DEL" }),
  killing({ name: "netd killed during ADD", mode: "netd", verb: "ADD" }),
  killing({ name: "netd killed during DEL", mode: "netd", verb: "DEL" }),
  killing({
    name: "portmap ADD killed",
    mode: "standalone",
    verb: "ADD",
    world: { chained: "portmap" },
  }),
  killing({
    name: "portmap DEL killed",
    mode: "standalone",
    verb: "DEL",
    world: { chained: "portmap" },
  }),
  killing({
    name: "netd killed during portmap ADD",
    mode: "netd",
    verb: "ADD",
    world: { chained: "portmap" },
  }),
  killing({
    name: "netd killed during portmap DEL",
    mode: "netd",
    verb: "DEL",
    world: { chained: "portmap" },
  }),
  killing({
    name: "netd killed during dns ADD",
    mode: "netd",
    verb: "ADD",
    world: { chained: "dns" },
    ways: waysOfNames,
  }),
  killing({
    name: "netd killed during dns DEL",
    mode: "netd",
    verb: "DEL",
    world: { chained: "dns" },
    ways: waysOfNames,
  }),
  killing({ name: "first ADD of a host killed", mode: "standalone", verb: "ADD", isFresh: true }),
  killing({
    name: "first ADD of a VLAN killed",
    needs: "bridge VLAN filtering",
    mode: "standalone",
    verb: "ADD",
    isFresh: true,
    world: { config: { vlan: 100 } },
  }),
  killing({
    name: "last DEL of a VLAN killed",
    needs: "bridge VLAN filtering",
    mode: "standalone",
    verb: "DEL",
    isFresh: true,
    world: { config: { vlan: 100 } },
  }),
  killing({
    name: "ADD with iptables killed",
    mode: "standalone",
    verb: "ADD",
    isFresh: true,
    world: { config: { ipMasqBackend: "iptables", insistOnBackend: true } },
    focus: /elements-added|iptables-added|veth-made|before-print/,
  }),
];

export function waysOn(mode: Mode): readonly WayOn[] {
  return mode === "netd" ? [...allFollowUps, "restart", "launcher goes on"] : allFollowUps;
}

/** All ways on from each point; in a short run one, another one for each point. */
export function casesOf<Way>(
  points: readonly string[],
  ways: readonly Way[],
  isFull: boolean,
): readonly { readonly point: string; readonly way: Way }[] {
  return points.flatMap((point, index) =>
    (isFull ? ways : ways.filter((_, at) => at === index % ways.length)).map((way) => ({ point, way })),
  );
}

async function kill(bench: ScenarioBench, plan: Killing): Promise<void> {
  const options = { mode: plan.mode, hasBystanders: true, ...plan.world };
  const { points, world: first } = await withPoints(bench, plan, options);
  let world = first;
  let count = 0;
  try {
    for (const { point, way } of casesOf(points, plan.ways ?? waysOn(plan.mode), bench.kit.isFull)) {
      const reason = await attempt(() => killOnce(world, plan, point, way));
      bench.note(point, way, reason);
      if (reason === "") continue;
      // Whatever it left must not spoil the next case.
      await world.close();
      world = await World.open(bench.kit, `${bench.label}-${++count}`, options);
    }
    await world.finish();
  } finally {
    await world.close();
  }
}

async function withPoints(bench: ScenarioBench, plan: Killing, options: WorldOptions) {
  const world = await World.open(bench.kit, bench.label, options);
  try {
    const container = await world.container();
    const add = await tracePoints(world, "ADD", container);
    const del = await tracePoints(world, "DEL", container);
    await world.expectConsistent(container);
    return { world, points: plan.verb === "ADD" ? add : del };
  } catch (error) {
    await world.close();
    throw error;
  }
}

/** Each case has a host of its own, on which there is nothing yet. */
async function killFresh(bench: ScenarioBench, plan: Killing): Promise<void> {
  const options = { mode: plan.mode, ...plan.world };
  const points = await freshPoints(bench, plan, options);
  let count = 0;
  for (const { point, way } of casesOf(points, waysOn(plan.mode), bench.kit.isFull)) {
    const world = await World.open(bench.kit, `${bench.label}-${++count}`, options);
    try {
      bench.note(
        point,
        way,
        await attempt(async () => {
          await killOnce(world, plan, point, way);
          await world.finish();
        }),
      );
    } finally {
      await world.close();
    }
  }
}

/** Points of the first ADD, or of the last DEL, that another one beside it does not pass. */
async function freshPoints(
  bench: ScenarioBench,
  { verb, focus }: Killing,
  options: WorldOptions,
): Promise<readonly string[]> {
  const world = await World.open(bench.kit, bench.label, options);
  try {
    const [one, other] = [await world.container(), await world.container()];
    const firstAdd = await tracePoints(world, "ADD", one);
    const secondAdd = await tracePoints(world, "ADD", other);
    const firstDel = await tracePoints(world, "DEL", one);
    const lastDel = await tracePoints(world, "DEL", other);
    await world.finish();
    const [points, usual] = verb === "ADD" ? [firstAdd, secondAdd] : [lastDel, firstDel];
    if (bench.kit.isFull) return points;
    return points.filter((point) => (focus ? focus.test(point) : !usual.includes(point)));
  } finally {
    await world.close();
  }
}

export async function killOnce(
  world: World,
  plan: Pick<Killing, "mode" | "verb">,
  point: string,
  way: WayOn,
): Promise<void> {
  const { mode, verb } = plan;
  if (mode === "netd" && world.netd?.isRunning !== true) await world.startNetd();
  const container = await world.container();
  if (verb === "ADD") await world.prepare(container);
  else {
    await world.attach(container);
    world.forget(container);
  }
  // Where the launcher is not to go on, it dies with netd, as when the machine kills a whole service.
  const isWhole = mode === "netd" && way !== "launcher goes on";
  const crashAt = isWhole ? [point, "launcher/netd-lost", "launcher/standalone"] : [point];
  const reply = await world.call(verb, container, { crashAt });
  if (mode === "netd") expectEqual(await world.netd?.ended(), "SIGKILL", "netd's end");
  else expectEqual(reply.completed.signal, "SIGKILL", `${verb}'s end`);
  if (way === "restart") await restart(world, container);
  else if (way !== "launcher goes on") await followUps[way](world, container, {});
  else if (verb === "DEL") {
    reply.expectSilence();
    await world.detachRest(container);
    await world.expectConsistent(container);
  } else {
    world.expectAttached(container, reply);
    await world.expectConsistent(container);
    await world.expectWorking(container);
    await followUps.DEL(world, container, {});
  }
  await container.namespace.remove();
}

export async function attempt(action: () => Promise<void>): Promise<string> {
  try {
    await action();
    return "";
  } catch (error) {
    expect(error instanceof Error, String(error));
    return messageOf(error) || error.name;
  }
}
