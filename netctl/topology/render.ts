import prettyBytes from "pretty-bytes";
import type { Colors } from "#netctl/io.ts";
import type { TreeNode } from "#netctl/tree.ts";
import type { LinkCounters, NamespaceView, Topology, TopologyLink } from "./model.ts";

/** One namespace as a tree for people. @param all says what the others' ids are called */
export function drawNamespace(namespace: NamespaceView, all: Topology, colors: Colors): TreeNode {
  const { name, kind, containers, containerIds, paths, links, ports, processes, processCount } = namespace;
  const { bold, dim } = colors;
  const nameOf = (id: string) => all.namespaces.find((each) => each.id === id)?.name ?? id;
  const id = containers[0]?.id ?? containerIds[0];
  const head = [
    kind,
    bold(name),
    ...(containers[0] === undefined ? [] : [containers[0].runtime]),
    ...(id === undefined || name.startsWith(id.slice(0, 12)) ? [] : [id.slice(0, 12)]),
    dim(paths[0] ?? namespace.id),
  ];
  const inside = containers.filter((each) => each.name !== name || containers.length > 1);
  const more = processCount - processes.length;
  return node(head, [
    ...inside.map((each) =>
      node(["container", bold(each.name), each.id.slice(0, 12), dim(`pid ${each.pid}`)]),
    ),
    ...links.filter(({ isLoopback }) => !isLoopback).map((link) => drawLink(link, nameOf, colors)),
    ...ports.map((port) => node(["published", port])),
    // Those of the host say nothing about its networks.
    ...(kind === "host"
      ? []
      : processes.map(({ pid, command }) => node(["process", command, dim(`pid ${pid}`)]))),
    ...(kind === "host" || more <= 0 ? [] : [node([dim(`and ${more} more processes`)])]),
  ]);
}

function drawLink(link: TopologyLink, nameOf: (id: string) => string, colors: Colors): TreeNode {
  const { bold, dim, green, red, cyan } = colors;
  const state = link.up ? (link.operState === "unknown" ? "up" : link.operState) : "down";
  const words = [
    link.kind === "bridge" ? "bridge" : "link",
    bold(link.name),
    link.kind === "bridge" ? "" : link.kind,
    state === "up" ? green(state) : red(state),
    dim(link.mac),
    dim(`mtu ${link.mtu}`),
    ...link.addresses.map((address) => cyan(address)),
    link.master === "" ? "" : `port of ${link.master}`,
    link.network === null ? "" : `network ${link.network}`,
    link.below === null ? "" : dim(describeEnd(link.below, nameOf)),
  ];
  const routes = link.routes.map(({ destination, gateway, metric }) =>
    node([
      "route",
      destination,
      gateway === "" ? "" : `via ${gateway}`,
      metric === 0 ? "" : dim(`metric ${metric}`),
    ]),
  );
  return node(words, [...routes, ...(link.counters === null ? [] : [drawCounters(link.counters, colors)])]);
}

function describeEnd(below: NonNullable<TopologyLink["below"]>, nameOf: (id: string) => string): string {
  const where = `${nameOf(below.namespace)} ${below.link}`;
  return below.relation === "peer" ? `to ${where}` : `on ${where}`;
}

/** Bytes and packets of both directions; losses only where there are some. */
function drawCounters(counters: LinkCounters, { dim, yellow }: Colors): TreeNode {
  const { rxBytes, txBytes, rxPackets, txPackets, rxDropped, txDropped, rxErrors, txErrors } = counters;
  const lost = [
    [rxDropped, "dropped on arrival"],
    [txDropped, "dropped on departure"],
    [rxErrors, "damaged on arrival"],
    [txErrors, "failed on departure"],
  ] as const;
  return node([
    dim(`received ${sizeText(rxBytes)} in ${rxPackets}`),
    dim(`sent ${sizeText(txBytes)} in ${txPackets}`),
    ...lost.filter(([count]) => count > 0).map(([count, what]) => yellow(`${count} ${what}`)),
  ]);
}

/** 1.2 KiB */
export function sizeText(count: number): string {
  return prettyBytes(count, { binary: true });
}

function node(words: readonly string[], children: readonly TreeNode[] = []): TreeNode {
  return { text: words.filter((word) => word !== "").join("  "), children };
}
