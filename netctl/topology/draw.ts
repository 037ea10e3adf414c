import type { Inspection } from "#netctl/inspect/model.ts";
import { buildGraph, type LinkNote } from "./graph.ts";
import { renderMermaid } from "./mermaid.ts";
import type { Topology } from "./model.ts";

export const graphFormats = ["svg", "mermaid"] as const;
export type GraphFormat = (typeof graphFormats)[number];

/** The topology as a picture. The program that lays it out is loaded for this alone. */
export async function drawGraph(
  topology: Topology,
  differences: ReadonlyMap<string, readonly string[]>,
  notes: ReadonlyMap<string, LinkNote>,
  title: string,
  format: GraphFormat,
): Promise<string> {
  const graph = buildGraph(topology, differences, { notes });
  if (format === "mermaid") return renderMermaid(graph);
  const { renderSvg } = await import("./svg.ts");
  return renderSvg(graph, title);
}

/** Other hosts of a network that are named. */
const mostHosts = 6;

/** Bridges and tunnels of networks over several hosts: which network, and which other hosts are in it. */
export function overlayNotes({ networks }: Inspection): ReadonlyMap<string, LinkNote> {
  return new Map(
    networks.flatMap(({ name, overlay }) => {
      if (overlay === null) return [];
      const others = overlay.hosts.filter(({ here }) => !here);
      const lines = [
        ...(overlay.encrypted ? ["  encrypted"] : []),
        ...others
          .slice(0, mostHosts)
          .map(
            (host) => `  to ${host.name}  ${host.underlay[0] ?? ""}${host.live === false ? "  silent" : ""}`,
          ),
        ...(others.length > mostHosts ? [`  and ${others.length - mostHosts} hosts more`] : []),
      ];
      return [
        [overlay.bridge, { network: name, lines: overlay.mode === "l2" ? ["  one segment"] : [] }] as const,
        ...overlay.devices.map((device) => [device, { network: name, lines }] as const),
      ];
    }),
  );
}

/** What does not agree, by the id of the container and by the name of the bridge that it is about. */
export function differencesByOwner({
  networks,
  sandboxes,
}: Inspection): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  const note = (owner: string, differences: readonly string[]) =>
    found.set(owner, [...(found.get(owner) ?? []), ...differences]);
  for (const { bridges, attachments, differences, blocked } of networks) {
    for (const { containerId, differences } of attachments) note(containerId, differences);
    for (const { name } of bridges) note(name, differences);
    for (const { bridge, evidence } of blocked) note(bridge, [evidence]);
  }
  for (const { containerId, differences } of sandboxes) note(containerId, differences);
  return found;
}
