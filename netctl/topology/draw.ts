import type { Inspection } from "#netctl/inspect/model.ts";
import { buildGraph } from "./graph.ts";
import { renderMermaid } from "./mermaid.ts";
import type { Topology } from "./model.ts";

export const graphFormats = ["svg", "mermaid"] as const;
export type GraphFormat = (typeof graphFormats)[number];

/** The topology as a picture. The program that lays it out is loaded for this alone. */
export async function drawGraph(
  topology: Topology,
  differences: ReadonlyMap<string, readonly string[]>,
  title: string,
  format: GraphFormat,
): Promise<string> {
  const graph = buildGraph(topology, differences);
  if (format === "mermaid") return renderMermaid(graph);
  const { renderSvg } = await import("./svg.ts");
  return renderSvg(graph, title);
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
