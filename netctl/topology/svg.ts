import type { Box, Edge, Graph, Line } from "./graph.ts";
import { layOut, lineHeight, type Placed, padding, type Routed, titleHeight } from "./layout.ts";

const margin = 28;

const colors: Readonly<Record<Box["kind"], { readonly edge: string; readonly fill: string }>> = {
  host: { edge: "#57606a", fill: "#f6f8fa" },
  sandbox: { edge: "#1a7f37", fill: "#f0fff4" },
  pod: { edge: "#0969da", fill: "#f0f7ff" },
  container: { edge: "#0969da", fill: "#f0f7ff" },
  namespace: { edge: "#8250df", fill: "#fbf6ff" },
  bridge: { edge: "#bf8700", fill: "#fffaeb" },
  tunnel: { edge: "#bc4c00", fill: "#fff5ef" },
  link: { edge: "#57606a", fill: "#ffffff" },
};
const tones: Readonly<Record<Line["tone"], string>> = {
  plain: "#1f2328",
  faint: "#6e7781",
  warning: "#b35900",
};
const strokes: Readonly<Record<Edge["tone"], string>> = {
  plain: "#57606a",
  faint: "#afb8c1",
  warning: "#cf222e",
};

/** A picture of the graph that needs nothing else to be shown: SVG 1.1, no script, no font of its own. */
export function renderSvg(graph: Graph, title: string): string {
  const { placed, routed, frame, right, bottom } = layOut(graph);
  const width = Math.ceil(Math.max(right, title.length * 9) + margin);
  const height = Math.ceil(bottom + margin + titleHeight);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="${-margin} ${-margin - titleHeight} ${width + margin} ${height + margin}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">
<title>${escape(title)}</title>
<rect x="${-margin}" y="${-margin - titleHeight}" width="100%" height="100%" fill="#ffffff"/>
<text x="0" y="${-margin / 2 - 6}" font-size="15" font-weight="600" fill="#1f2328">${escape(title)}</text>
${frame === undefined ? "" : drawFrame(frame)}${routed.map(drawEdge).join("")}${placed.map(drawBox).join("")}${routed.map(drawLabel).join("")}</svg>
`;
}

function drawFrame({ box, left, top, width, height }: Placed): string {
  const { edge, fill } = colors[box.kind];
  return `<rect x="${left}" y="${top}" width="${width}" height="${height}" rx="10" fill="${fill}" stroke="${edge}" stroke-dasharray="4 3"/>
<text x="${left + padding}" y="${top + 17}" font-weight="600" fill="${edge}">${escape(box.title)}</text>
`;
}

function drawBox({ box, left, top, width, height }: Placed): string {
  const { edge, fill } = colors[box.kind];
  const warned = box.lines.some(({ tone }) => tone === "warning");
  const lines = box.lines.map(
    ({ text, tone }, index) =>
      `<text x="${left + padding}" y="${top + titleHeight + 12 + index * lineHeight}" fill="${tones[tone]}" xml:space="preserve">${escape(tone === "warning" ? `! ${text.trim()}` : text)}</text>`,
  );
  return `<g><rect x="${left}" y="${top}" width="${width}" height="${height}" rx="6" fill="${fill}" stroke="${warned ? "#cf222e" : edge}" stroke-width="${warned ? 2 : 1.2}"/>
<text x="${left + padding}" y="${top + 17}" font-size="13" font-weight="600" fill="${edge}">${escape(box.title)}</text>
${lines.join("\n")}
</g>
`;
}

function drawEdge({ edge, points }: Routed): string {
  const path = points.map(({ x, y }, index) => `${index === 0 ? "M" : "L"}${round(x)} ${round(y)}`).join(" ");
  const dash = edge.tone === "faint" ? ' stroke-dasharray="5 4"' : "";
  return `<path d="${path}" fill="none" stroke="${strokes[edge.tone]}" stroke-width="1.4" stroke-linejoin="round"${dash}/>\n`;
}

function drawLabel({ edge, labelAt: middle }: Routed): string {
  if (edge.label === "") return "";
  const width = edge.label.length * 6 + 6;
  return `<rect x="${round(middle.x - width / 2)}" y="${round(middle.y - 8)}" width="${width}" height="15" rx="3" fill="#ffffff" fill-opacity="0.9"/>
<text x="${round(middle.x)}" y="${round(middle.y + 3)}" font-size="10" text-anchor="middle" fill="${tones.faint}">${escape(edge.label)}</text>
`;
}

const round = (value: number) => Math.round(value * 10) / 10;

function escape(text: string): string {
  return text.replace(/[<>&"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
