import { Failure } from "#netctl/failure.ts";
import type { NamespaceView, Topology, TopologyLink } from "#netctl/topology/model.ts";
import { namespaceId } from "#netctl/topology/namespace-table.ts";
import { namesIn, selectNamespaces } from "#netctl/topology/select.ts";
import type { World } from "#netctl/world.ts";
import { didYouMean } from "#runtime/nearest-word.ts";

/** One link in one namespace where packets are captured. */
export interface CapturePoint {
  /** `alice eth0`: as people call it. */
  readonly name: string;
  readonly netns: string;
  readonly link: string;
  /** Sees what is not for itself: a bridge has to be asked for what only passes through it. */
  readonly isPromiscuous: boolean;
}

/**
 * Where to look for the packets of what these names mean: of a container its interfaces, of a network its bridge, of a
 * link of the host that link.
 * @param bothEnds the host's end of each container's interface as well
 * @throws {Failure} for a name that means nothing, or something without interfaces
 */
export function findPoints(
  topology: Topology,
  names: readonly string[],
  bothEnds: boolean,
  { kernel }: World,
): readonly CapturePoint[] {
  const [host] = topology.namespaces;
  const points = names.flatMap((name) => {
    const found =
      host === undefined ? [] : pointsOf(topology, host, name, namespaceId(kernel.namespace), bothEnds);
    if (found.length === 0)
      throw new Failure(
        `Cannot capture at ${name}: no container, network, namespace or link with an interface${didYouMean(name, namesIn(topology))}`,
      );
    return found;
  });
  return [...new Map(points.map((point) => [`${point.netns} ${point.link}`, point])).values()];
}

function pointsOf(
  topology: Topology,
  host: NamespaceView,
  name: string,
  hostId: string,
  bothEnds: boolean,
): readonly CapturePoint[] {
  const atHost = (link: TopologyLink): CapturePoint => ({
    name: `host ${link.name}`,
    netns: hostPath,
    link: link.name,
    isPromiscuous: link.kind === "bridge",
  });
  const ofNetwork = host.links.filter(({ network }) => network === name);
  if (ofNetwork.length > 0) return ofNetwork.map(atHost);
  const exact = host.links.find((link) => link.name === name);
  if (exact !== undefined) return [atHost(exact)];
  return selectNamespaces(topology, name, hostId).flatMap((namespace) => {
    const links = namespace.links.filter(({ isLoopback, up }) => !isLoopback && up);
    if (namespace.id === host.id) return links.filter(({ master }) => master === "").map(atHost);
    const netns = namespace.paths[0] ?? `/proc/${namespace.processes[0]?.pid}/ns/net`;
    return links.flatMap((link): readonly CapturePoint[] => {
      const inside = { name: `${namespace.name} ${link.name}`, netns, link: link.name, isPromiscuous: false };
      const end = link.below;
      const outside = host.links.find(({ name: each }) => end?.namespace === host.id && each === end.link);
      return bothEnds && outside !== undefined ? [inside, atHost(outside)] : [inside];
    });
  });
}

const hostPath = "/proc/self/ns/net";
