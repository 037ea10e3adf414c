import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Box, buildGraph } from "#netctl/topology/graph.ts";
import {
  type Drawing,
  layOut,
  lineHeight,
  type Placed,
  padding,
  type Routed,
  titleHeight,
} from "#netctl/topology/layout.ts";
import type { NamespaceView } from "#netctl/topology/model.ts";
import type { StateAnswer } from "#netctl/ui/answers.ts";
import { Details } from "./details.tsx";
import { isFound } from "./format.tsx";
import type { History } from "./live.tsx";

interface Frame {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The topology as a picture that can be moved, made larger, and asked. */
export function MapView({
  state,
  history,
  search,
}: {
  state: StateAnswer;
  history: History;
  search: string;
}) {
  const graph = useMemo(
    () =>
      buildGraph(state.topology, new Map(Object.entries(state.differences)), {
        notes: new Map(Object.entries(state.notes)),
        isWanted: (namespace) => isLookedFor(namespace, search),
      }),
    [state, search],
  );
  // A new place for everything only where there is something new: what moves can't be read.
  const shape = JSON.stringify([graph.boxes.map(({ id, lines }) => [id, lines.length]), graph.edges]);
  const drawing = useMemo(() => layOut(graph), [shape]);
  const [chosen, choose] = useState<string>();
  const boxes = new Map(graph.boxes.map((box) => [box.id, box]));
  return (
    <div class="map">
      <Canvas drawing={drawing} isSearched={search.trim() !== ""} onChoose={choose}>
        {drawing.frame === undefined ? null : <FrameBox placed={drawing.frame} />}
        {drawing.routed.map((routed, index) => (
          <EdgeLine key={index} routed={routed} />
        ))}
        {drawing.placed.map((placed) => (
          <BoxShape
            key={placed.box.id}
            placed={{ ...placed, box: boxes.get(placed.box.id) ?? placed.box }}
            isChosen={chosen === placed.box.id}
            isFaint={!matches(placed.box, search)}
            onChoose={choose}
          />
        ))}
        {drawing.routed.map((routed, index) => (
          <EdgeLabel key={index} routed={routed} />
        ))}
      </Canvas>
      <Details state={state} history={history} chosen={chosen} onClose={() => choose(undefined)} />
    </div>
  );
}

/** Of a crowd those that are looked for come first. */
function isLookedFor({ name, links }: NamespaceView, search: string): boolean {
  if (search.trim() === "") return false;
  return isFound(search, name, ...links.flatMap(({ network, addresses }) => [network, ...addresses]));
}

function matches({ title, lines }: Box, search: string): boolean {
  const wanted = search.trim().toLowerCase();
  return (
    wanted === "" ||
    [title, ...lines.map(({ text }) => text)].some((text) => text.toLowerCase().includes(wanted))
  );
}

const margin = 30;
/** What is smaller can't be read: then the first look is at the beginning, over the whole width. */
const leastScale = 0.75;

/** Dragging moves it, the wheel makes it larger. */
function Canvas({
  drawing,
  isSearched,
  onChoose,
  children,
}: {
  drawing: Drawing;
  /** Then all of it is of interest: what was found may be anywhere. */
  isSearched: boolean;
  onChoose: (id: string | undefined) => void;
  children: preact.ComponentChildren;
}) {
  const whole: Frame = {
    x: -margin,
    y: -margin,
    width: drawing.right + 2 * margin,
    height: drawing.bottom + 2 * margin,
  };
  const [moved, setMoved] = useState<Frame>();
  const dragged = useRef<{ readonly x: number; readonly y: number } | undefined>(undefined);
  const svg = useRef<SVGSVGElement>(null);
  const size = useSize(svg);
  const frame = moved ?? (isSearched ? whole : firstLook(whole, size));
  const scale = () =>
    Math.max(frame.width / (svg.current?.clientWidth ?? 1), frame.height / (svg.current?.clientHeight ?? 1));
  return (
    <svg
      ref={svg}
      class="canvas"
      role="img"
      aria-label="how the namespaces hang together"
      viewBox={`${frame.x} ${frame.y} ${frame.width} ${frame.height}`}
      onWheel={(event) => {
        event.preventDefault();
        const factor = event.deltaY > 0 ? 1.15 : 1 / 1.15;
        const { left, top, width, height } = event.currentTarget.getBoundingClientRect();
        const [atX, atY] = [(event.clientX - left) / width, (event.clientY - top) / height];
        setMoved({
          x: frame.x + frame.width * atX * (1 - factor),
          y: frame.y + frame.height * atY * (1 - factor),
          width: frame.width * factor,
          height: frame.height * factor,
        });
      }}
      onPointerDown={({ clientX, clientY }) => {
        dragged.current = { x: clientX, y: clientY };
      }}
      onPointerMove={({ clientX, clientY }) => {
        const from = dragged.current;
        if (from === undefined) return;
        const perPixel = scale();
        setMoved({
          ...frame,
          x: frame.x - (clientX - from.x) * perPixel,
          y: frame.y - (clientY - from.y) * perPixel,
        });
        dragged.current = { x: clientX, y: clientY };
      }}
      onPointerUp={() => {
        dragged.current = undefined;
      }}
      onPointerLeave={() => {
        dragged.current = undefined;
      }}
      onDblClick={() => setMoved(whole)}
      onClick={({ target, currentTarget }) => {
        if (target === currentTarget) onChoose(undefined);
      }}
    >
      {children}
    </svg>
  );
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** In pixels, as long as the element is there. */
function useSize(element: { readonly current: SVGSVGElement | null }): Size | undefined {
  const [size, setSize] = useState<Size>();
  useLayoutEffect(() => {
    const { current } = element;
    if (current === null) return;
    const look = () => setSize({ width: current.clientWidth, height: current.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(current);
    look();
    return () => observer.disconnect();
  }, []);
  return size;
}

/** Of a hundred containers below each other the first ones, large enough to be read. */
function firstLook(whole: Frame, size: Size | undefined): Frame {
  if (size === undefined || size.width === 0 || size.height === 0) return whole;
  const scale = size.width / whole.width;
  if (Math.min(scale, size.height / whole.height) >= Math.min(scale, leastScale)) return whole;
  const shown = Math.min(1, scale);
  const width = size.width / shown;
  return {
    x: whole.x - (width - whole.width) / 2,
    y: whole.y,
    width,
    height: size.height / shown,
  };
}

function FrameBox({ placed: { box, left, top, width, height } }: { placed: Placed }) {
  return (
    <g class="box host-frame">
      <rect x={left} y={top} width={width} height={height} rx={10} />
      <text class="title" x={left + padding} y={top + 17}>
        {box.title}
      </text>
    </g>
  );
}

function BoxShape({
  placed: { box, left, top, width, height },
  isChosen,
  isFaint,
  onChoose,
}: {
  placed: Placed;
  isChosen: boolean;
  isFaint: boolean;
  onChoose: (id: string) => void;
}) {
  const warned = box.lines.some(({ tone }) => tone === "warning");
  const classes = ["box", box.kind, warned && "warned", isChosen && "chosen", isFaint && "unmatched"];
  return (
    <g
      class={classes.filter(Boolean).join(" ")}
      data-box={box.title}
      tabIndex={0}
      onClick={() => onChoose(box.id)}
      onKeyDown={({ key }) => {
        if (key === "Enter") onChoose(box.id);
      }}
    >
      <rect x={left} y={top} width={width} height={height} rx={6} />
      <text class="title" x={left + padding} y={top + 17}>
        {box.title}
      </text>
      {box.lines.map(({ text, tone }, index) => (
        <text
          key={index}
          class={tone}
          x={left + padding}
          y={top + titleHeight + 12 + index * lineHeight}
          xml:space="preserve"
        >
          {tone === "warning" ? `! ${text.trim()}` : text}
        </text>
      ))}
    </g>
  );
}

function EdgeLine({ routed: { edge, points } }: { routed: Routed }) {
  const path = points.map(({ x, y }, index) => `${index === 0 ? "M" : "L"}${x} ${y}`).join(" ");
  return <path class={`edge ${edge.tone}`} d={path} />;
}

function EdgeLabel({ routed: { edge, labelAt: middle } }: { routed: Routed }) {
  if (edge.label === "") return null;
  const width = edge.label.length * 6 + 6;
  return (
    <g class="edge-label">
      <rect x={middle.x - width / 2} y={middle.y - 8} width={width} height={15} rx={3} />
      <text x={middle.x} y={middle.y + 3}>
        {edge.label}
      </text>
    </g>
  );
}
