import { hostname } from "node:os";
import { checks } from "#netctl/doctor/checks.ts";
import { examine } from "#netctl/doctor.ts";
import { describeError } from "#netctl/failure.ts";
import { collectInspection } from "#netctl/inspect/collect.ts";
import { KeptAttachments } from "#netctl/kept-attachments.ts";
import { askResolver } from "#netctl/resolver.ts";
import { countConnections } from "#netctl/top/connections.ts";
import { collectTopology } from "#netctl/topology/collect.ts";
import { differencesByOwner, overlayNotes } from "#netctl/topology/draw.ts";
import type { World } from "#netctl/world.ts";
import type { FindingsAnswer, NamesAnswer, StateAnswer } from "./answers.ts";

/** What the page is told. Each is read once for all who ask while it is being read. */
export class UiState {
  readonly state: () => Promise<StateAnswer>;
  readonly names: () => Promise<NamesAnswer>;
  readonly findings: () => Promise<FindingsAnswer>;

  constructor(world: World) {
    this.state = shared(() => readState(world));
    this.names = shared(() => readNames(world));
    this.findings = shared(async () => ({ findings: await examine(checks, world) }));
  }
}

function shared<Value>(read: () => Promise<Value>): () => Promise<Value> {
  let current: Promise<Value> | undefined;
  return () =>
    (current ??= read().finally(() => {
      current = undefined;
    }));
}

async function readState(world: World): Promise<StateAnswer> {
  const kept = new KeptAttachments(world);
  const topology = await collectTopology(world, kept);
  const inspection = await collectInspection(world, topology, kept);
  return {
    host: hostname(),
    timeMs: Date.now(),
    topology,
    differences: Object.fromEntries(differencesByOwner(inspection)),
    notes: Object.fromEntries(overlayNotes(inspection)),
    networks: inspection.networks.map(({ name, driver, subnets, attachments, differences }) => ({
      name,
      driver,
      subnets: subnets.map(({ subnet }) => subnet),
      attachments: attachments.length,
      differences,
    })),
    connections: await countConnections(world),
    problems: inspection.problems,
  };
}

async function readNames(world: World): Promise<NamesAnswer> {
  try {
    return { report: (await askResolver(world, { op: "list" })) as NamesAnswer["report"], problem: "" };
  } catch (error) {
    return { report: null, problem: describeError(error) };
  }
}
