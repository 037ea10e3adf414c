import { Graph as Layout, layout } from "@dagrejs/dagre";
import type { Box, Edge, Graph } from "./graph.ts";

/** In pixels of a drawing at its natural size. */
export const lineHeight = 16;
export const padding = 10;
export const titleHeight = 22;
/** Of a monospaced letter at 12 px. */
const letterWidth = 7.25;

export interface Placed {
  readonly box: Box;
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface Routed {
  readonly edge: Edge;
  readonly points: readonly Point[];
  /** The middle of its label, where there is room for it. */
  readonly labelAt: Point;
}

interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Drawing {
  readonly placed: readonly Placed[];
  readonly routed: readonly Routed[];
  /** Around everything that is in the host; undefined where nothing is. */
  readonly frame: Placed | undefined;
  /** Of the whole, from 0 on; the frame may begin a little before. */
  readonly right: number;
  readonly bottom: number;
}

/** Finds a place for every box, containers on the left, the way out on the right. */
export function layOut({ boxes, edges }: Graph): Drawing {
  const plan = new Layout({ multigraph: true, compound: true });
  plan.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 90, marginx: 0, marginy: 0 });
  plan.setDefaultEdgeLabel(() => ({}));
  if (boxes.some(({ isInHost }) => isInHost)) plan.setNode("in host", {});
  for (const box of boxes) {
    plan.setNode(box.id, sizeOf(box));
    if (box.isInHost) plan.setParent(box.id, "in host");
  }
  for (const [index, { from, to, label }] of edges.entries())
    plan.setEdge(from, to, { width: label.length * 6, height: 14, labelpos: "c" }, String(index));
  layout(plan);
  const placed = boxes.map((box) => {
    const { x, y } = plan.node(box.id) as { x: number; y: number };
    const { width, height } = sizeOf(box);
    return { box, width, height, left: x - width / 2, top: y - height / 2 };
  });
  const inHost = placed.filter(({ box }) => box.isInHost);
  const frame = inHost.length === 0 ? undefined : frameAround(inHost);
  const all = frame === undefined ? placed : [...placed, frame];
  return {
    placed,
    frame,
    routed: edges.map((edge, index) => {
      const { points, x, y } = plan.edge(edge.from, edge.to, String(index)) as Point & Pick<Routed, "points">;
      return { edge, points, labelAt: { x, y } };
    }),
    right: Math.max(0, ...all.map(({ left, width }) => left + width)),
    bottom: Math.max(0, ...all.map(({ top, height }) => top + height)),
  };
}

function sizeOf({ title, lines }: Box): { readonly width: number; readonly height: number } {
  // A warning begins with "! ".
  const longest = Math.max(
    title.length * 1.1,
    ...lines.map(({ text, tone }) => text.length + (tone === "warning" ? 2 : 0)),
  );
  return {
    width: Math.round(longest * letterWidth + 2 * padding),
    height: titleHeight + lines.length * lineHeight + padding,
  };
}

function frameAround(inHost: readonly Placed[]): Placed {
  const room = 18;
  const left = Math.min(...inHost.map((each) => each.left)) - room;
  const top = Math.min(...inHost.map((each) => each.top)) - room - titleHeight / 2;
  const right = Math.max(...inHost.map((each) => each.left + each.width)) + room;
  const bottom = Math.max(...inHost.map((each) => each.top + each.height)) + room;
  const box: Box = { id: "in host", kind: "host", title: "host", lines: [], isInHost: true };
  return { box, left, top, width: right - left, height: bottom - top };
}
