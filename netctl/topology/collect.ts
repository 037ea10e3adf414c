import { readAllAddresses } from "#kernel/address.ts";
import { listLinkDetails, readNamespaceId } from "#kernel/inventory.ts";
import type { LinkDetails } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readAllRoutes } from "#kernel/route.ts";
import { formatCidr } from "#net/cidr.ts";
import { describeError } from "#netctl/failure.ts";
import { KeptAttachments } from "#netctl/kept-attachments.ts";
import type { World } from "#netctl/world.ts";
import { readCommand } from "#runtime/namespace-processes.ts";
import { groupBy } from "./group-by.ts";
import { Identities } from "./identities.ts";
import type { LinkEnd, NamespaceView, Topology, TopologyLink } from "./model.ts";
import { type FoundNamespace, listNamespaces, namespaceId, pathOf } from "./namespace-table.ts";
import { viewMainRoute } from "./route-view.ts";

/** Processes of a namespace that are shown. */
const shownProcesses = 8;

/** A namespace as it was read, before it is known what its links lead to. */
interface ReadNamespace {
  readonly found: FoundNamespace | undefined;
  readonly id: string;
  readonly links: readonly ReadLink[];
}

interface ReadLink {
  readonly details: LinkDetails;
  readonly view: Omit<TopologyLink, "below" | "network" | "isInternal">;
  /** The link that it stands on, or its peer, is the host's. */
  readonly isOnHost: boolean;
}

/**
 * Looks into every network namespace of the machine. Namespaces that neither hang together with the host's, nor belong
 * to a container, nor are in a record of this suite, are other hosts' on the same machine, and left out.
 */
export async function collectTopology(
  world: World,
  kept: KeptAttachments = new KeptAttachments(world),
): Promise<Topology> {
  const problems: string[] = [];
  const identities = await Identities.read(world, kept, problems);
  const host = world.kernel.namespace;
  const isHost = ({ identity }: FoundNamespace) => identity.dev === host.dev && identity.ino === host.ino;
  const all = listNamespaces(identities.paths);
  const read = [
    readNamespace("host", all.find(isHost), host, undefined),
    ...all
      .filter((found) => !isHost(found))
      .flatMap((found) => {
        try {
          return [lookInto(found, world)];
        } catch (error) {
          // One whose last process has ended meanwhile is no problem.
          if (found.paths.length > 0)
            problems.push(`Cannot look into ${pathOf(found)}: ${describeError(error)}`);
          return [];
        }
      }),
  ];
  const ends = connect(read);
  const related = relatedTo("host", ends);
  const namespaces = read
    .filter(({ id, found }) => related.has(id) || (found !== undefined && identities.knows(found)))
    .map((each) => viewNamespace(each, ends, identities));
  const [own, ...others] = namespaces;
  return {
    schema: "netctl.topology/1",
    namespaces: [
      ...(own === undefined ? [] : [own]),
      ...others.sort((a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id)),
    ],
    problems,
  };
}

function lookInto(found: FoundNamespace, { kernel }: World): ReadNamespace {
  const namespace = kernel.open(pathOf(found));
  try {
    return readNamespace(namespaceId(found.identity), found, namespace, kernel.namespace);
  } finally {
    namespace.close();
  }
}

function readNamespace(
  id: string,
  found: FoundNamespace | undefined,
  namespace: NetworkNamespace,
  host: NetworkNamespace | undefined,
): ReadNamespace {
  const details = listLinkDetails(namespace);
  const addresses = groupBy(readAllAddresses(namespace), ({ ifindex }) => ifindex);
  const routes = groupBy(readAllRoutes(namespace), ({ ifindex }) => ifindex);
  const leadsOut = details.some(({ parentNamespaceId }) => parentNamespaceId !== undefined);
  const hostId = host !== undefined && leadsOut ? readNamespaceId(namespace, host) : undefined;
  const links = details.map(
    (link): ReadLink => ({
      details: link,
      isOnHost: hostId !== undefined && link.parentNamespaceId === hostId,
      view: {
        name: link.name,
        ifindex: link.ifindex,
        kind: link.kind ?? "",
        isLoopback: link.type === loopbackType,
        up: link.up,
        operState: link.operState,
        mac: link.mac ?? "",
        mtu: link.mtu,
        master: details.find(({ ifindex }) => ifindex === link.master)?.name ?? "",
        addresses: (addresses.get(link.ifindex) ?? []).map(({ address }) => formatCidr(address)),
        routes: (routes.get(link.ifindex) ?? []).flatMap((route) => viewMainRoute(route) ?? []),
        counters: link.statistics ?? null,
      },
    }),
  );
  return { found, id, links };
}

/** ARPHRD_LOOPBACK: include/uapi/linux/if_arp.h */
const loopbackType = 772;

const keyOf = (namespace: string, link: string) => `${namespace} ${link}`;

/** What each link stands on or is the other end of, by `keyOf`. */
function connect(namespaces: readonly ReadNamespace[]): ReadonlyMap<string, LinkEnd> {
  const ends = new Map<string, LinkEnd>();
  const host = namespaces.find(({ id }) => id === "host");
  const hostLinks = new Map(host?.links.map((link) => [link.details.ifindex, link.details]) ?? []);
  const note = (id: string, link: LinkDetails, end: LinkEnd) => ends.set(keyOf(id, link.name), end);
  const relationOf = ({ kind }: LinkDetails) => (kind === "veth" ? "peer" : "parent");
  const loose: { readonly id: string; readonly link: LinkDetails }[] = [];
  for (const { id, links } of namespaces) {
    for (const { details, isOnHost } of links) {
      if (details.parent === undefined || details.parent === 0) continue;
      const isHere = details.parentNamespaceId === undefined;
      const below = isHere
        ? links.find((each) => each.details.ifindex === details.parent)?.details
        : isOnHost
          ? hostLinks.get(details.parent)
          : undefined;
      if (below === undefined) {
        loose.push({ id, link: details });
        continue;
      }
      const namespace = isHere ? id : "host";
      note(id, details, { relation: relationOf(details), namespace, link: below.name });
      // The host's end says in which namespace its peer is by a number that is told only to the host.
      if (!isHere && details.kind === "veth")
        note("host", below, { relation: "peer", namespace: id, link: details.name });
    }
  }
  // The host's ends of containers are known by now, and have the numbers that other hosts' have.
  const unknown = loose.filter(({ id, link }) => link.kind === "veth" && !ends.has(keyOf(id, link.name)));
  for (const { id, link } of unknown) {
    // Between two containers: each end names the other's ifindex. Where two pairs do, neither is known.
    const peers = unknown.filter(
      (each) => each.id !== id && each.link.ifindex === link.parent && each.link.parent === link.ifindex,
    );
    const [peer] = peers;
    if (peer !== undefined && peers.length === 1)
      note(id, link, { relation: "peer", namespace: peer.id, link: peer.link.name });
  }
  return ends;
}

/** The namespaces that one gets to from `start` by links. */
function relatedTo(start: string, ends: ReadonlyMap<string, LinkEnd>): ReadonlySet<string> {
  const neighbours = new Map<string, Set<string>>();
  const note = (from: string, to: string) => {
    const found = neighbours.get(from);
    if (found === undefined) neighbours.set(from, new Set([to]));
    else found.add(to);
  };
  for (const [key, { namespace }] of ends) {
    const [from = ""] = key.split(" ");
    note(from, namespace);
    note(namespace, from);
  }
  const related = new Set([start]);
  for (const each of related) for (const next of neighbours.get(each) ?? []) related.add(next);
  return related;
}

function viewNamespace(
  { id, found, links }: ReadNamespace,
  ends: ReadonlyMap<string, LinkEnd>,
  identities: Identities,
): NamespaceView {
  const pids = found?.pids ?? [];
  const processes = pids.slice(0, shownProcesses).map((pid) => ({ pid, command: readCommand(pid) }));
  const owner = found === undefined ? undefined : identities.of(found);
  return {
    id,
    ...describe(id, found, owner, processes),
    sandbox: owner?.sandbox ?? null,
    containers: owner?.containers ?? [],
    containerIds: owner?.containerIds ?? [],
    paths: found?.paths ?? [],
    processes,
    processCount: pids.length,
    ports: owner?.ports ?? [],
    links: links.map(({ details, view }) => {
      const bridge = id === "host" ? identities.ofBridge(details.name) : undefined;
      return {
        ...view,
        network: owner?.networks.get(details.name) ?? bridge?.network ?? null,
        isInternal: bridge?.isInternal ?? false,
        below: ends.get(keyOf(id, details.name)) ?? null,
      };
    }),
  };
}

function describe(
  id: string,
  found: FoundNamespace | undefined,
  owner: ReturnType<Identities["of"]> | undefined,
  processes: NamespaceView["processes"],
): Pick<NamespaceView, "name" | "kind"> {
  if (id === "host") return { kind: "host", name: "host" };
  if (owner?.sandbox !== undefined) return { kind: "sandbox", name: owner.sandbox };
  const [container] = owner?.containers ?? [];
  if (container?.pod !== undefined) return { kind: "pod", name: container.pod };
  if (container !== undefined) return { kind: "container", name: container.name };
  const [containerId] = owner?.containerIds ?? [];
  if (containerId !== undefined) return { kind: "container", name: containerId.slice(0, 12) };
  const [path] = found?.paths ?? [];
  const [process] = processes;
  const name = path?.split("/").at(-1) ?? (process === undefined ? id : `${process.command} ${process.pid}`);
  return { kind: "namespace", name };
}
