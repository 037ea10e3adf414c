import type { Box, Edge, Graph } from "./graph.ts";

/** The same graph in the language of Mermaid, which many wikis draw: https://mermaid.js.org/syntax/flowchart.html */
export function renderMermaid({ boxes, edges }: Graph): string {
  const ids = new Map(boxes.map(({ id }, index) => [id, `n${index}`]));
  const inHost = boxes.filter(({ isInHost }) => isInHost);
  const others = boxes.filter(({ isInHost }) => !isInHost);
  const draw = (box: Box, indent: string) => `${indent}${ids.get(box.id)}["${textOf(box)}"]`;
  return [
    "flowchart LR",
    ...others.map((box) => draw(box, "  ")),
    ...(inHost.length === 0 ? [] : ["  subgraph host", ...inHost.map((box) => draw(box, "    ")), "  end"]),
    ...edges.map((edge) => `  ${ids.get(edge.from)} ${arrow(edge)} ${ids.get(edge.to)}`),
    "",
  ].join("\n");
}

function arrow({ label, tone }: Edge): string {
  const line = tone === "faint" ? "-.-" : "---";
  return label === "" ? line : `${line}|"${quote(label)}"|`;
}

const textOf = ({ title, lines }: Box) =>
  [
    `<b>${quote(title)}</b>`,
    ...lines.map(({ text, tone }) => quote(tone === "warning" ? `! ${text.trim()}` : text.trim())),
  ].join("<br/>");

const quote = (text: string) => text.replace(/[<>&"#]/g, (sign) => `#${sign.charCodeAt(0)};`);
