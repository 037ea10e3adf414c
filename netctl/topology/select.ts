import { identifyNamespace } from "#machine/namespace-identity.ts";
import { Failure } from "#netctl/failure.ts";
import { didYouMean } from "#runtime/nearest-word.ts";
import type { NamespaceView, Topology } from "./model.ts";
import { namespaceId } from "./namespace-table.ts";

/**
 * The namespaces that a name means: `host`; a namespace's path; a process id; a sandbox; a container of any runtime by
 * name, id or its beginning; a pod as NAMESPACE/NAME; a namespace by the name of its file; or a link of the host, which
 * means the host and whatever is at the link's other end.
 * @returns none where nothing is called so
 * @throws {Failure} where it is the beginning of several ids
 */
export function selectNamespaces(
  { namespaces }: Topology,
  text: string,
  hostId: string,
): readonly NamespaceView[] {
  const byId = (id: string) => namespaces.filter((each) => each.id === (id === hostId ? "host" : id));
  if (text === "host") return byId("host");
  if (text.startsWith("/")) return at(text, byId);
  if (/^\d+$/.test(text)) {
    const found = at(`/proc/${text}/ns/net`, byId);
    if (found.length > 0) return found;
  }
  const named = namespaces.filter(({ name, sandbox, containers, paths }) =>
    [
      name,
      sandbox,
      ...containers.flatMap((each) => [each.name, each.id, each.pod]),
      ...paths.map(baseName),
    ].includes(text),
  );
  if (named.length > 0) return named;
  return selectById(namespaces, text) ?? selectByLink(namespaces, text);
}

function at(path: string, byId: (id: string) => readonly NamespaceView[]): readonly NamespaceView[] {
  const identity = identifyNamespace(path);
  return typeof identity === "string" ? [] : byId(namespaceId(identity));
}

function selectById(
  namespaces: readonly NamespaceView[],
  text: string,
): readonly NamespaceView[] | undefined {
  if (text.length < 4) return undefined;
  const idsOf = ({ containers, containerIds }: NamespaceView) => [
    ...containers.map(({ id }) => id),
    ...containerIds,
  ];
  const found = namespaces.filter((each) => idsOf(each).some((id) => id.startsWith(text)));
  if (found.length === 0) return undefined;
  if (found.length > 1)
    throw new Failure(`"${text}" is the beginning of ${found.length} containers' ids; give more of it`);
  return found;
}

function selectByLink(namespaces: readonly NamespaceView[], text: string): readonly NamespaceView[] {
  const [host] = namespaces;
  const link = host?.links.find(({ name }) => name === text);
  if (host === undefined || link === undefined) return [];
  const others = namespaces.filter(
    (each) =>
      each.id !== host.id &&
      (each.id === link.below?.namespace ||
        each.links.some(({ below }) => below?.namespace === host.id && below.link === text)),
  );
  // Of the host, what has to do with it.
  const isNear = ({ name, master, below }: (typeof host.links)[number]) =>
    name === text ||
    name === link.master ||
    master === text ||
    (below?.namespace === host.id && below.link === text);
  return [{ ...host, links: host.links.filter(isNear) }, ...others];
}

/** For a name that means nothing: what is called so, and what it may have been meant for. */
export function noNamespace(topology: Topology, text: string): Failure {
  return new Failure(
    `No sandbox, container, process or namespace "${text}"${didYouMean(text, namesIn(topology))}`,
  );
}

/** What people may call the namespaces that there are. */
export function namesIn({ namespaces }: Topology): readonly string[] {
  return namespaces.flatMap(({ name, containers }) => [
    name,
    ...containers.flatMap((each) => [each.name, each.pod].filter((word) => word !== undefined)),
  ]);
}

const baseName = (path: string) => path.split("/").at(-1);

/**
 * The host with what has to do with these namespaces, and the namespaces themselves, for a picture of a part.
 * @param ids of containers and namespaces
 */
export function neighbourhood({ namespaces }: Topology, ids: ReadonlySet<string>): readonly NamespaceView[] {
  const [host, ...others] = namespaces;
  if (host === undefined) return [];
  const chosen = others.filter(
    ({ id, containerIds }) => ids.has(id) || containerIds.some((containerId) => ids.has(containerId)),
  );
  if (ids.has("host")) return [host, ...chosen];
  const byName = new Map(host.links.map((link) => [link.name, link]));
  const wanted = new Set<string>();
  const want = (name: string) => {
    const link = byName.get(name);
    if (link === undefined || wanted.has(name)) return;
    wanted.add(name);
    want(link.master);
    if (link.below?.namespace === host.id) want(link.below.link);
  };
  for (const { links } of chosen)
    for (const { below } of links) if (below?.namespace === host.id) want(below.link);
  // The way out, and what a bridge reaches other hosts by.
  for (const { name, routes, master, kind } of host.links)
    if (
      routes.some(({ destination }) => destination === "default") ||
      (wanted.has(master) && kind !== "veth")
    )
      want(name);
  return [{ ...host, links: host.links.filter(({ name }) => wanted.has(name)) }, ...chosen];
}
