import type { JsonObject } from "#cni/json.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Reply } from "#conformance/reply.ts";
import { attempt } from "./killed.ts";
import { pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { isStopped } from "./netd-process.ts";
import { tracePoints } from "./points.ts";
import { type CallOptions, type Container, World } from "./world.ts";

/** What holds for a bridge is made by the first ADD behind it and removed by who is the last: two at once, in each order. */
export const togetherScenarios: readonly Scenario[] = [
  { name: "two first ADDs of firewall at once", run: (bench) => together(bench, {}) },
  {
    name: "two first ADDs of firewall at once, by iptables",
    run: (bench) => together(bench, { backend: "iptables", insistOnBackend: true }),
  },
];

const failAt = ["standalone/firewall-rules-added"];
const bridge = "br-faults";

/** What one of the two does. It stands still at `stopAt`, until the other has come as far as it can. */
interface Part {
  readonly verb: "ADD" | "DEL";
  readonly fails: boolean;
  readonly stopAt: string;
}

async function together(bench: ScenarioBench, backend: JsonObject): Promise<void> {
  const world = await World.open(bench.kit, bench.label, {
    mode: "standalone",
    chained: "firewall",
    chainedConfig: { ingressPolicy: "same-bridge", ...backend },
  });
  try {
    const [one, other] = [await world.container(), await world.container()];
    const failing = await tracePoints(world, "ADD", one, { failAt });
    (await world.call("ADD", one)).expectJson();
    const trace = { ADD: failing, DEL: await tracePoints(world, "DEL", one) };
    for (const container of [one, other]) await world.prepare(container);
    for (const [first, second] of pairs(trace, bench.kit.isFull)) {
      const reason = await attempt(() => meet(world, [one, first], [other, second]));
      bench.note(`${describe(first)} with ${describe(second)}`, "", reason);
    }
    for (const container of [one, other]) await world.detachRest(container);
    await world.finish();
  } finally {
    await world.close();
  }
}

function describe({ verb, fails, stopAt }: Part): string {
  return `${verb} that ${fails ? "fails" : "succeeds"}${stopAt === "" ? "" : `, stopped at ${stopAt}`}`;
}

/** Each that takes something away with each that makes something or takes it away, at all their points or some. */
function pairs(
  points: Readonly<Record<"ADD" | "DEL", readonly string[]>>,
  isFull: boolean,
): readonly (readonly [Part, Part])[] {
  const all = (verb: "ADD" | "DEL", fails: boolean) =>
    points[verb].map((stopAt): Part => ({ verb, fails, stopAt }));
  const leaving = [...all("ADD", true), ...all("DEL", false)];
  const found = leaving.flatMap((first) => [
    [first, { verb: "ADD", fails: false, stopAt: "" }] as const,
    ...[...all("ADD", true), ...all("DEL", false)].map((second) => [first, second] as const),
  ]);
  if (isFull) return found;
  // One fails or leaves while the other succeeds; or both do, a part of it: no multiple of the number of points, so that
  // each meets several.
  const isKept = /planned|-last|added|removed/u;
  return found.filter(([first, second], index) =>
    second.stopAt === "" ? isKept.test(first.stopAt) : index % 29 === 0,
  );
}

/** Both, as they are told; afterwards the bridge has a policy if and only if somebody is behind it. */
async function meet(
  world: World,
  [one, first]: readonly [Container, Part],
  [other, second]: readonly [Container, Part],
): Promise<void> {
  for (const [container, { verb }] of [
    [one, first],
    [other, second],
  ] as const)
    if (verb === "DEL") (await world.call("ADD", container)).expectJson();
  const begun = await begin(world, one, first);
  const met = await begin(world, other, second);
  const replies = [await begun.end(), await met.end()];
  for (const [index, { verb, fails }] of [first, second].entries()) {
    if (fails) replies[index]?.expectError({ names: /made-up/ });
    else if (verb === "ADD") replies[index]?.expectJson();
    else replies[index]?.expectSilence();
  }
  const isBehind = second.verb === "ADD" && !second.fails;
  if (isBehind) {
    (await world.call("CHECK", other)).expectSilence();
    expect((await policies(world)).length > 0, `${bridge} has lost its policy`);
    (await world.call("DEL", other)).expectSilence();
  }
  expectEqual(await policies(world), [], `what holds for ${bridge} behind which nobody is`);
}

/** Longer than what is not stopped takes, if it waits for nobody. */
const patienceMs = 1_000;

/** Begins one, and returns when it stands still, has ended, or waits for somebody. */
async function begin(world: World, container: Container, { verb, fails, stopAt }: Part) {
  let processId = 0;
  let isOver = false;
  const options: CallOptions = {
    ...(fails ? { failAt } : {}),
    ...(stopAt === "" ? {} : { stopAt: [stopAt] }),
    onStart: (id) => (processId = id),
  };
  const reply = world.call(verb, container, options).finally(() => (isOver = true));
  const standsStill = () => processId !== 0 && isStopped(processId);
  for (const until = Date.now() + patienceMs; !isOver && !standsStill() && Date.now() < until; )
    await pause(2);
  return {
    /** Lets it go on, to its end. */
    async end(): Promise<Reply> {
      while (!isOver) {
        if (standsStill()) process.kill(processId, "SIGCONT");
        await pause(2);
      }
      return await reply;
    },
  };
}

/** Everything that names the bridge in the sets and chains of the plugin. */
async function policies(world: World): Promise<readonly string[]> {
  const sets = await world.run("nft list table inet netctl 2>/dev/null || true");
  const elements = [...sets.matchAll(/^\t(?:set|map) (ingress_\w+) \{\n(.*?)\n\t\}/gmsu)].flatMap(
    ([, name = "", body = ""]) => (body.includes(`"${bridge}"`) ? [name] : []),
  );
  const rules = (await world.run("iptables -S 2>/dev/null; ip6tables -S 2>/dev/null; true")).split("\n");
  return [
    ...elements,
    ...rules.filter((rule) => rule.startsWith("-A CNI-ISOLATION") && rule.includes(bridge)),
  ];
}
