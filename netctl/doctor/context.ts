import type { JournalRecord } from "#journal/record.ts";
import { type Link, listLinks } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readBootId } from "#machine/boot-id.ts";
import { describeNetwork, type Network } from "#netctl/network/listing.ts";
import type { World } from "#netctl/world.ts";
import type { ConfProblem } from "#runtime/conf-dir.ts";

/** What the checks look at, read once for all of them. */
export interface DoctorContext {
  readonly world: World;
  /** The host's namespace. */
  readonly host: NetworkNamespace;
  readonly bootId: string;
  readonly networks: readonly Network[];
  /** Files of the configuration directory that give no network. */
  readonly confProblems: readonly ConfProblem[];
  readonly links: readonly Link[];
  readonly records: readonly JournalRecord[];
}

export async function openContext(world: World): Promise<DoctorContext> {
  const { networks, problems } = await world.networks.load();
  const host = world.kernel.namespace;
  return {
    world,
    host,
    bootId: readBootId(),
    networks: networks.map(describeNetwork),
    confProblems: problems,
    links: listLinks(host),
    records: world.journal.list(),
  };
}

/** Bridges of the networks that the host has. */
export function bridgesIn({ networks, links }: DoctorContext): readonly Link[] {
  const names = new Set(networks.flatMap(({ bridges }) => bridges));
  return links.filter(({ name, kind }) => kind === "bridge" && names.has(name));
}

/** Families of a network's addresses. */
export function familiesOf({ subnets }: Network): readonly (4 | 6)[] {
  return ([4, 6] as const).filter((family) =>
    subnets.some(({ subnet }) => subnet.includes(":") === (family === 6)),
  );
}
