import { attempt, casesOf, killOnce, type WayOn, waysOn } from "./killed.ts";
import type { Mode, Scenario, ScenarioBench } from "./kit.ts";
import { type AttachmentVerb, tracePoints } from "./points.ts";
import { World, type WorldOptions } from "./world.ts";

interface Plan extends Pick<WorldOptions, "interfacePlugin" | "chained"> {
  /** Points that only this plugin has, for a short run. */
  readonly focus: RegExp;
  readonly ways?: (mode: Mode) => readonly WayOn[];
}

const plans: Readonly<Record<string, Plan>> = {
  ptp: { interfacePlugin: "ptp", focus: /host-end-up|elements-added|links-and-rules-removed/ },
  macvlan: {
    interfacePlugin: "macvlan",
    focus: /macvlan-made|interface-connected|interface-and-addresses-removed/,
  },
  "host-device": {
    interfacePlugin: "host-device",
    focus: /device-/,
    // The devices are virtual: they end with the namespace that they are in.
    ways: (mode) => waysOn(mode).filter((way) => way !== "DEL without namespace"),
  },
  tuning: { chained: "tuning", focus: /tuning-|journal-leaving/ },
  bandwidth: { chained: "bandwidth", focus: /shaped|ifb-made|shape-removed|redirection-removed/ },
  firewall: { chained: "firewall", focus: /firewall-|elements-planned/ },
  sbr: { chained: "sbr", focus: /source-|main-table-/ },
};

/** Of each plugin beside bridge, both verbs: killed at every point. */
function killings(mode: Mode): readonly Scenario[] {
  const who = mode === "netd" ? "netd killed during" : "killed during";
  return Object.entries(plans).map(([plugin, plan]) => ({
    name: `${who} ADD and DEL of ${plugin}`,
    run: (bench) => killBoth(bench, mode, plan),
  }));
}

export const pluginScenarios = killings("netd");
export const pluginScenariosAlone = killings("standalone");

async function killBoth(bench: ScenarioBench, mode: Mode, plan: Plan): Promise<void> {
  const { isFull } = bench.kit;
  const { interfacePlugin, chained } = plan;
  const hasBystanders = isFull && interfacePlugin !== "host-device";
  const options: WorldOptions = {
    mode,
    hasBystanders,
    ...(interfacePlugin && { interfacePlugin }),
    ...(chained && { chained }),
  };
  let world = await World.open(bench.kit, bench.label, options);
  let count = 0;
  try {
    const model = await world.container();
    const points = {
      ADD: await tracePoints(world, "ADD", model),
      DEL: await tracePoints(world, "DEL", model),
    };
    await world.expectConsistent(model);
    for (const verb of ["ADD", "DEL"] satisfies AttachmentVerb[]) {
      const struck = isFull ? points[verb] : points[verb].filter((point) => plan.focus.test(point));
      for (const { point, way } of casesOf(struck, (plan.ways ?? waysOn)(mode), isFull)) {
        const reason = await attempt(() => killOnce(world, { mode, verb }, point, way));
        bench.note(`${verb}: ${point}`, way, reason);
        if (reason === "") continue;
        await world.close();
        world = await World.open(bench.kit, `${bench.label}-${++count}`, options);
      }
    }
    await world.finish();
  } finally {
    await world.close();
  }
}
