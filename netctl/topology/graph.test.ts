import { expect, test } from "vitest";
import { buildGraph } from "./graph.ts";
import type { NamespaceView, Topology, TopologyLink } from "./model.ts";

function link(name: string, more: Partial<TopologyLink>): TopologyLink {
  return {
    name,
    ifindex: 1,
    kind: "veth",
    isLoopback: false,
    up: true,
    operState: "up",
    mac: "",
    mtu: 1500,
    master: "",
    addresses: [],
    routes: [],
    counters: null,
    network: null,
    isInternal: false,
    below: null,
    ...more,
  };
}

function namespace(id: string, links: readonly TopologyLink[]): NamespaceView {
  return {
    id,
    name: id,
    kind: id === "host" ? "host" : "sandbox",
    sandbox: null,
    containers: [],
    containerIds: [],
    paths: [],
    processes: [],
    processCount: 0,
    links,
    ports: [],
  };
}

/** Six bridges with eighty containers on each. */
function crowdedHost(): Topology {
  const bridges = ["br0", "br1", "br2", "br3", "br4", "br5"];
  const containers = bridges.flatMap((bridge) =>
    Array.from({ length: 80 }, (_, index) => ({
      bridge,
      id: `${bridge}-c${index}`,
      port: `${bridge}p${index}`,
    })),
  );
  const host = namespace("host", [
    ...bridges.map((name) => link(name, { kind: "bridge" })),
    ...containers.map(({ bridge, id, port }) =>
      link(port, { master: bridge, below: { relation: "peer", namespace: id, link: "eth0" } }),
    ),
    link("nv1", { kind: "vxlan" }),
  ]);
  const others = containers.map(({ id, port }) =>
    namespace(id, [link("eth0", { below: { relation: "peer", namespace: "host", link: port } })]),
  );
  return { schema: "netctl.topology/1", namespaces: [host, ...others], problems: [] };
}

test("of a crowd on many bridges a few of each are drawn, the others are counted", () => {
  const { boxes } = buildGraph(crowdedHost(), new Map());
  expect(boxes.filter(({ kind }) => kind === "sandbox")).toHaveLength(60);
  expect(boxes.filter(({ title }) => title === "and 70 more")).toHaveLength(6);
});

test("who is looked for is drawn, whatever else is not", () => {
  const { boxes } = buildGraph(crowdedHost(), new Map(), { isWanted: ({ name }) => name === "br3-c79" });
  expect(boxes.map(({ title }) => title)).toContain("br3-c79");
  expect(boxes.filter(({ kind }) => kind === "sandbox")).toHaveLength(60);
});

test("bridges and tunnels of a network over several hosts say which, and whom they lead to", () => {
  const notes = new Map([
    ["br1", { network: "web", lines: [] }],
    ["nv1", { network: "web", lines: ["  to h2  10.0.0.2"] }],
  ]);
  const { boxes } = buildGraph(crowdedHost(), new Map(), { notes });
  expect(boxes.find(({ title }) => title === "web")?.lines[0]?.text).toBe("bridge br1");
  expect(boxes.find(({ title }) => title === "nv1")?.lines.map(({ text }) => text)).toEqual([
    "vxlan of web",
    "  to h2  10.0.0.2",
    "  mtu 1500",
  ]);
});
