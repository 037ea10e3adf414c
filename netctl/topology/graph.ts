import type { LinkCounters, LinkEnd, NamespaceView, Topology, TopologyLink } from "./model.ts";

/** A picture before it is laid out: boxes with lines of text, and what connects them. */
export interface Graph {
  readonly boxes: readonly Box[];
  readonly edges: readonly Edge[];
}

export interface Box {
  readonly id: string;
  /** Decides its colour. */
  readonly kind: NamespaceView["kind"] | "bridge" | "link" | "tunnel";
  readonly title: string;
  readonly lines: readonly Line[];
  /** Stands in the host. */
  readonly isInHost: boolean;
}

export interface Line {
  readonly text: string;
  readonly tone: "plain" | "faint" | "warning";
}

export interface Edge {
  readonly from: string;
  readonly to: string;
  readonly label: string;
  readonly tone: "plain" | "faint" | "warning";
}

/** Containers that get a box each, of one bridge and of all; those that are left share one for each bridge. */
const mostOfBridge = 40;
const mostOfAll = 60;
const leastOfBridge = 5;

/** What is known of a host's link beside what the kernel says: of a network over several hosts. */
export interface LinkNote {
  readonly network: string;
  readonly lines: readonly string[];
}

export interface GraphOptions {
  /** By the name of a host's link. */
  readonly notes?: ReadonlyMap<string, LinkNote>;
  /** Namespaces that get a box before others do. */
  readonly isWanted?: (namespace: NamespaceView) => boolean;
}

/**
 * Boxes and edges of a topology: a box for each namespace but the host, and one for each link of the host that is more
 * than a container's other end.
 * @param differences what does not agree, by container id and by the name of a host's link
 */
export function buildGraph(
  topology: Topology,
  differences: ReadonlyMap<string, readonly string[]>,
  { notes = new Map(), isWanted = () => false }: GraphOptions = {},
): Graph {
  const [host, ...others] = topology.namespaces;
  if (host === undefined) return { boxes: [], edges: [] };
  const { shown, hidden } = limit(others, host, isWanted);
  const hostLinks = host.links.filter((link) => !link.isLoopback && isShownInHost(link, host));
  const boxes = [
    ...shown.map((namespace) => boxOfNamespace(namespace, differences)),
    ...hostLinks.map((link) => boxOfLink(link, differences, notes.get(link.name))),
  ];
  const known = new Set(boxes.map(({ id }) => id));
  const edges = [
    ...shown.flatMap((namespace) => edgesOfNamespace(namespace, host)),
    ...hostLinks.flatMap((link) => edgesInHost(link, host)),
  ].filter(({ from, to }) => known.has(from) && known.has(to));
  const crowds = [...hidden].map(([bridge, count]) => crowd(bridge, count));
  return {
    boxes: [...boxes, ...crowds.map(({ box }) => box)],
    edges: [...edges, ...crowds.map(({ edge }) => edge)],
  };
}

const linkId = (name: string) => `host ${name}`;

/** A veth's end that is a bridge's port is part of the edge to its container. */
function isShownInHost(link: TopologyLink, host: NamespaceView): boolean {
  const leadsElsewhere = link.below !== null && link.below.namespace !== host.id;
  if (link.kind === "veth" && leadsElsewhere) return link.master === "" && link.addresses.length > 0;
  const isUsed =
    link.master !== "" ||
    link.addresses.some((address) => !address.startsWith("fe80:")) ||
    host.links.some(({ master, below }) => master === link.name || below?.link === link.name) ||
    link.network !== null;
  return link.kind === "bridge" || link.kind === "vxlan" || (link.up && isUsed) || link.kind === "";
}

function boxOfNamespace(namespace: NamespaceView, differences: ReadonlyMap<string, readonly string[]>): Box {
  const { id, name, kind, links, ports, containers, containerIds, processes, processCount } = namespace;
  const runtime = containers[0]?.runtime;
  const own = containerIds.flatMap((each) => differences.get(each) ?? []);
  return {
    id,
    kind,
    isInHost: false,
    title: name,
    lines: [
      ...(runtime === undefined ? [] : [faint(`${kind} of ${runtime}`)]),
      ...links.filter(({ isLoopback }) => !isLoopback).flatMap(linesOfLink),
      ...ports.map((port) => plain(`published ${port}`)),
      ...(processCount === 0
        ? []
        : [
            faint(
              `${processes
                .map(({ command }) => command)
                .slice(0, 3)
                .join(", ")}${processCount > 3 ? ` and ${processCount - 3} more` : ""}`,
            ),
          ]),
      ...own.map(warning),
    ],
  };
}

function boxOfLink(
  link: TopologyLink,
  differences: ReadonlyMap<string, readonly string[]>,
  note: LinkNote | undefined,
): Box {
  const kind = link.kind === "bridge" ? "bridge" : link.kind === "vxlan" ? "tunnel" : "link";
  const what = link.kind === "" ? "interface" : link.kind;
  return {
    id: linkId(link.name),
    kind,
    isInHost: true,
    title: kind === "bridge" ? (link.network ?? note?.network ?? link.name) : link.name,
    lines: [
      faint(
        kind === "bridge"
          ? `${link.isInternal ? "internal " : ""}bridge ${link.name}`
          : note
            ? `${what} of ${note.network}`
            : what,
      ),
      ...(note?.lines ?? []).map(plain),
      ...linesOfLink(link).slice(1),
      ...(differences.get(link.name) ?? []).map(warning),
    ],
  };
}

function linesOfLink(link: TopologyLink): readonly Line[] {
  const { name, up, operState, addresses, counters, network, mtu } = link;
  const isDown = !up || operState === "down" || operState === "lowerlayerdown";
  const gateways = link.routes
    .filter(({ destination }) => destination === "default")
    .map(({ gateway }) => gateway);
  return [
    plain(network === null ? name : `${name} in ${network}`),
    ...(isDown ? [warning(`${name} is down`)] : []),
    ...addresses.filter((address) => !address.startsWith("fe80:")).map((address) => plain(`  ${address}`)),
    ...gateways.map((gateway) => faint(gateway === "" ? "  default route" : `  default via ${gateway}`)),
    faint(`  mtu ${mtu}`),
    ...(counters === null ? [] : linesOfDrops(counters)),
  ];
}

/** A bridge that waits for its first port drops a few; a hundred, and more than one of a hundred, are a fault. */
function linesOfDrops({ rxDropped, txDropped, rxPackets, txPackets }: LinkCounters): readonly Line[] {
  const dropped = rxDropped + txDropped;
  if (dropped === 0) return [];
  const text = `  ${dropped} packet${dropped === 1 ? "" : "s"} dropped`;
  return [dropped >= 100 && dropped * 100 > rxPackets + txPackets ? warning(text) : faint(text)];
}

function edgesOfNamespace({ id, links }: NamespaceView, host: NamespaceView): readonly Edge[] {
  return links.flatMap((link): readonly Edge[] => {
    const { below } = link;
    if (below === null || below.namespace === id) return [];
    if (below.namespace !== host.id)
      // Each pair once.
      return id < below.namespace
        ? [{ from: id, to: below.namespace, label: labelOf(link, below), tone: "plain" }]
        : [];
    const end = host.links.find(({ name }) => name === below.link);
    if (end === undefined) return [];
    const to = end.master === "" || below.relation === "parent" ? end.name : end.master;
    const tone = link.up && end.up ? "plain" : "warning";
    const edge = { label: labelOf(link, below), tone } as const;
    // What is beyond a link of the host with addresses of its own is drawn behind it, as the world is.
    const isBeyond =
      below.relation === "peer" && end.master === "" && end.routes.length > 0 && link.network === null;
    return [isBeyond ? { ...edge, from: linkId(to), to: id } : { ...edge, from: id, to: linkId(to) }];
  });
}

function edgesInHost(link: TopologyLink, host: NamespaceView): readonly Edge[] {
  const edges: Edge[] = [];
  if (link.master !== "")
    edges.push({ from: linkId(link.master), to: linkId(link.name), label: "port", tone: "plain" });
  if (link.below !== null && link.below.namespace === host.id && link.kind !== "veth")
    edges.push({ from: linkId(link.name), to: linkId(link.below.link), label: "on", tone: "plain" });
  const uplink = host.links.find(({ routes }) => routes.some(({ destination }) => destination === "default"));
  const isRouted =
    link.kind === "bridge" &&
    !link.isInternal &&
    link.addresses.some((address) => !address.startsWith("fe80:"));
  if (isRouted && uplink !== undefined && uplink.name !== link.name)
    edges.push({ from: linkId(link.name), to: linkId(uplink.name), label: "routed", tone: "faint" });
  return edges;
}

const labelOf = (link: TopologyLink, below: LinkEnd) =>
  below.relation === "peer" ? `${link.name} / ${below.link}` : `${link.name}, ${link.kind}`;

interface Limited {
  readonly shown: readonly NamespaceView[];
  /** How many of each bridge are not shown. */
  readonly hidden: ReadonlyMap<string, number>;
}

function limit(
  namespaces: readonly NamespaceView[],
  host: NamespaceView,
  isWanted: (namespace: NamespaceView) => boolean,
): Limited {
  const masterOf = new Map(host.links.map(({ name, master }) => [name, master]));
  const bridgeOf = ({ links }: NamespaceView) =>
    links
      .flatMap(({ below }) => (below?.namespace === host.id ? [masterOf.get(below.link) ?? ""] : []))
      .find((master) => master !== "") ?? "";
  const bridges = new Map(namespaces.map((namespace) => [namespace.id, bridgeOf(namespace)]));
  const crowded = new Set([...bridges.values()].filter((bridge) => bridge !== "")).size;
  const most = Math.min(mostOfBridge, Math.max(leastOfBridge, Math.floor(mostOfAll / Math.max(1, crowded))));
  const chosen = new Set<string>();
  const counts = new Map<string, number>();
  const hidden = new Map<string, number>();
  for (const { id } of [...namespaces].sort((a, b) => Number(isWanted(b)) - Number(isWanted(a)))) {
    const bridge = bridges.get(id) ?? "";
    const count = (counts.get(bridge) ?? 0) + 1;
    counts.set(bridge, count);
    if (bridge === "" || count <= most) chosen.add(id);
    else hidden.set(bridge, (hidden.get(bridge) ?? 0) + 1);
  }
  const shown = namespaces.filter(({ id }) => chosen.has(id));
  return { shown, hidden };
}

function crowd(bridge: string, count: number): { readonly box: Box; readonly edge: Edge } {
  const id = `others ${bridge}`;
  return {
    box: {
      id,
      kind: "container",
      isInHost: false,
      title: `and ${count} more`,
      lines: [faint("netctl inspect lists them")],
    },
    edge: { from: id, to: linkId(bridge), label: "", tone: "faint" },
  };
}

const plain = (text: string): Line => ({ text, tone: "plain" });
const faint = (text: string): Line => ({ text, tone: "faint" });
const warning = (text: string): Line => ({ text, tone: "warning" });
