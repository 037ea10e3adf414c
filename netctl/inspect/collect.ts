import type { JournalRecord } from "#journal/record.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readBootId } from "#machine/boot-id.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { type ForeignDrops, readForeignDrops } from "#netctl/foreign-drops.ts";
import { KeptAttachments } from "#netctl/kept-attachments.ts";
import { describeNetwork, type Network } from "#netctl/network/listing.ts";
import { groupBy } from "#netctl/topology/group-by.ts";
import type { NamespaceView, Topology, TopologyLink } from "#netctl/topology/model.ts";
import { namespaceId } from "#netctl/topology/namespace-table.ts";
import type { World } from "#netctl/world.ts";
import { ownerTag } from "#nftables/owner.ts";
import { attachmentsIn, type KnownAttachment } from "#runtime/attachments.ts";
import type { CachedAttachment } from "#runtime/cache.ts";
import { ProcessTable } from "#runtime/namespace-processes.ts";
import type { Sandbox } from "#runtime/sandbox.ts";
import { compareAttachment } from "./differences.ts";
import { type OwnedElement, readOwnedElements } from "./element-view.ts";
import { masqueradedAddresses, readExpectation } from "./expectation.ts";
import { type LeaseView, readLeases } from "./lease-view.ts";
import type {
  AttachmentView,
  BridgeView,
  Inspection,
  JournalView,
  LinkView,
  NetworkView,
  PortView,
  SandboxView,
} from "./model.ts";
import { type OverlayNetworks, readOverlayNetworks } from "./overlay-view.ts";

/** What is read once for all networks. */
interface Sources {
  readonly host: NetworkNamespace;
  readonly hostLinks: ReadonlyMap<string, TopologyLink>;
  readonly hostPorts: ReadonlyMap<string, readonly TopologyLink[]>;
  /** By `NamespaceView.id`. */
  readonly namespaces: ReadonlyMap<string, NamespaceView>;
  readonly bootId: string;
  /** By network and container. */
  readonly cached: ReadonlyMap<string, readonly CachedAttachment[]>;
  readonly records: ReadonlyMap<string, readonly JournalRecord[]>;
  readonly sandboxes: readonly Sandbox[];
  readonly sandboxNames: ReadonlyMap<string, string>;
  readonly processes: ProcessTable;
  /** Undefined where they can't be read. */
  readonly elements: readonly OwnedElement[] | undefined;
  readonly elementsByTag: ReadonlyMap<string, readonly OwnedElement[]>;
  /** Of all networks; undefined where other firewalls can't be read. */
  readonly foreign: ForeignDrops | undefined;
  readonly overlays: OverlayNetworks["byName"];
  readonly problems: string[];
}

/**
 * Looks at everything that this host's networks and sandboxes are: configuration, records, and what the kernel
 * has. What can't be looked at becomes a problem in the answer, and hides nothing else.
 * @param topology what the kernel has: it is not read again
 */
export async function collectInspection(
  world: World,
  topology: Topology,
  kept: KeptAttachments = new KeptAttachments(world),
): Promise<Inspection> {
  const problems: string[] = [];
  const attempt = async <Value>(
    what: string,
    read: () => Value | Promise<Value>,
  ): Promise<Value | undefined> => {
    try {
      return await read();
    } catch (error) {
      problems.push(`Cannot read ${what}: ${error instanceof Error ? error.message : String(error)}`);
      return undefined;
    }
  };
  const content = await world.networks.load();
  for (const { path, error } of content.problems) problems.push(`passed over ${path}: ${error.message}`);
  const networks = content.networks.map(describeNetwork).sort((a, b) => (a.name < b.name ? -1 : 1));
  const host = world.kernel.namespace;
  const records = (await attempt("the journal", () => kept.records())) ?? [];
  const foreign = await attempt("other firewalls", () => readForeignDrops(host, networks, records));
  problems.push(...(foreign?.problems ?? []));
  const hostLinks = topology.namespaces[0]?.links ?? [];
  const cached = (await attempt("cached results", () => kept.cached())) ?? [];
  const sandboxes = (await attempt("sandboxes", () => world.sandboxes.list())) ?? [];
  const elements = await attempt("nftables", readOwnedElements);
  const overlays = await attempt("the cluster", () => readOverlayNetworks(world));
  problems.push(...(overlays?.problems ?? []));
  const sources: Sources = {
    host,
    hostLinks: new Map(hostLinks.map((link) => [link.name, link])),
    hostPorts: groupBy(hostLinks, ({ master }) => master),
    namespaces: new Map(topology.namespaces.map((each) => [each.id, each])),
    bootId: readBootId(),
    cached: groupBy(cached, ownerText),
    records: groupBy(records, ({ key }) => ownerText(key)),
    foreign,
    overlays: overlays?.byName ?? new Map(),
    sandboxes,
    sandboxNames: new Map(sandboxes.map(({ containerId, name }) => [containerId, name])),
    processes: ProcessTable.read(),
    elements,
    elementsByTag: groupBy(elements ?? [], ({ tag }) => tag),
    problems,
  };
  const known = attachmentsIn(records, cached);
  problems.push(...describeStrays(known, networks));
  return {
    schema: "netctl.inspect/1",
    networks: networks.map((network) =>
      viewNetwork(
        network,
        known.filter((each) => each.network === network.name),
        sources,
        world,
      ),
    ),
    sandboxes: sandboxes.map((sandbox) => viewSandbox(sandbox, sources)),
    problems,
  };
}

const ownerText = ({ network, containerId }: { readonly network: string; readonly containerId: string }) =>
  `${network} ${containerId}`;

/** Attachments to networks that nobody configures any more. Runtimes attach `lo` without a configuration. */
function describeStrays(known: readonly KnownAttachment[], networks: readonly Network[]): readonly string[] {
  const strays = known.filter(
    ({ network, ifName }) => ifName !== "lo" && !networks.some(({ name }) => name === network),
  );
  return [...new Set(strays.map(({ network }) => network))].map((network) => {
    const containers = strays
      .filter((each) => each.network === network)
      .map(({ containerId }) => containerId.slice(0, 12));
    return `network ${network} is not configured, but attachments of it are recorded: ${containers.join(", ")}`;
  });
}

function viewNetwork(
  configured: Network,
  known: readonly KnownAttachment[],
  sources: Sources,
  world: World,
): NetworkView {
  const overlay = configured.driver === "overlay-vxlan" ? sources.overlays.get(configured.name) : undefined;
  const network = overlay
    ? { ...configured, bridges: [...configured.bridges, overlay.view.bridge] }
    : configured;
  const { name, id, driver, subnets } = network;
  const { path, list } = configured.configured;
  const plugins = list.plugins.map(({ json }) => json);
  const leases = guarded(`leases of network ${name}`, sources, () =>
    readLeases(name, plugins, world.directories.leases),
  );
  const nameOf = ({ sandbox, containerId, ifName }: AttachmentView) => `${sandbox ?? containerId} ${ifName}`;
  const byContainer = leases && groupBy(leases, ({ containerId }) => containerId);
  const attachments = known
    .map((each) => viewAttachment(network, each, byContainer, sources))
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  const bridges = network.bridges.map((bridge) => viewBridge(bridge, attachments, sources));
  return {
    name,
    id,
    driver,
    path,
    cniVersion: list.cniVersion,
    plugins: list.plugins.map(({ type }) => type),
    subnets,
    bridges,
    attachments,
    overlay: overlay?.view ?? null,
    blocked: (sources.foreign?.drops ?? [])
      .filter((each) => each.network === name && !each.isMinor)
      .map(({ bridge, owner, evidence, remedy, isCertain }) => ({
        bridge,
        owner,
        evidence,
        remedy,
        certain: isCertain,
      })),
    differences: [
      ...compareNetwork(name, bridges, attachments, leases ?? [], sources.elements ?? []),
      ...(overlay?.differences ?? []),
    ],
  };
}

function viewAttachment(
  network: Network,
  known: KnownAttachment,
  leases: ReadonlyMap<string, readonly LeaseView[]> | undefined,
  sources: Sources,
): AttachmentView {
  const { containerId, ifName, netns, isAlive } = known;
  const isMine = (each: { readonly containerId: string; readonly ifName: string }) =>
    each.containerId === containerId && (each.ifName === ifName || each.ifName === "");
  const owner = ownerText(known);
  const cached = sources.cached.get(owner)?.find(isMine);
  const records = (sources.records.get(owner) ?? []).filter(({ key }) => isMine(key));
  const expectation = readExpectation(network.configured.list, ifName, cached, records);
  const { inside, outside } = lookAtLinks(known, expectation?.hostLinks ?? [], sources);
  const tag = ownerTag(network.name, containerId, ifName);
  const attachment = {
    network: network.name,
    containerId,
    sandbox: sources.sandboxNames.get(containerId) ?? null,
    ifName,
    netns,
    alive: isAlive,
    inside,
    outside,
    addresses: expectation?.addresses ?? [],
    leases: (leases?.get(containerId) ?? []).filter(isMine).map(({ ip }) => ip),
    elements: (sources.elementsByTag.get(tag) ?? []).map(({ text }) => text),
    journal: records.map((record) => viewRecord(record, sources.bootId)),
    cached: cached !== undefined,
  };
  const differences = compareAttachment({
    attachment,
    expectation,
    bridges: network.bridges,
    hasLeases: leases !== undefined,
    masqueraded: sources.elements === undefined ? undefined : masqueradedAddresses(records),
  });
  return { ...attachment, differences };
}

/** The interface inside, and of the host's links the peer of its veth and those that its result names. */
function lookAtLinks(
  { netns, ifName, isAlive }: KnownAttachment,
  expected: readonly { readonly name: string }[],
  sources: Sources,
): Pick<AttachmentView, "inside" | "outside"> {
  const named = expected
    .flatMap(({ name }) => sources.hostLinks.get(name) ?? [])
    .filter(({ kind }) => kind !== "bridge");
  if (!isAlive) return { inside: null, outside: named.map(plain) };
  const inside = namespaceAt(netns, sources)?.links.find(({ name }) => name === ifName);
  const end =
    inside?.below?.relation === "peer" && inside.below.namespace === "host" ? inside.below.link : "";
  const peer = sources.hostLinks.get(end);
  const outside = peer === undefined || named.includes(peer) ? named : [peer, ...named];
  return { inside: inside === undefined ? null : plain(inside), outside: outside.map(plain) };
}

function namespaceAt(netns: string, { namespaces, host }: Sources): NamespaceView | undefined {
  const identity = identifyNamespace(netns);
  if (typeof identity === "string") return undefined;
  const isHost = identity.ino === host.ino && identity.dev === host.dev;
  return namespaces.get(isHost ? "host" : namespaceId(identity));
}

/** Of a link what `netctl.inspect/1` has. */
function plain(link: TopologyLink): LinkView {
  const { name, ifindex, kind, up, operState, mac, mtu, master, addresses, routes } = link;
  return { name, ifindex, kind, up, operState, mac, mtu, master, addresses, routes };
}

function viewRecord(record: JournalRecord, bootId: string): JournalView {
  const { plugin, phase } = record;
  if (record.phase === "torn") return { plugin, phase, createdAt: "", thisBoot: true };
  return {
    plugin,
    phase,
    createdAt: new Date(record.createdAtMs).toISOString(),
    thisBoot: record.bootId === bootId,
  };
}

function viewBridge(name: string, attachments: readonly AttachmentView[], sources: Sources): BridgeView {
  const link = sources.hostLinks.get(name);
  if (link === undefined) return { name, link: null, ports: [] };
  const owners = new Map(
    attachments.flatMap(({ containerId, ifName, outside }) =>
      outside.map((each) => [each.name, { containerId, ifName }] as const),
    ),
  );
  const ports = (sources.hostPorts.get(name) ?? []).map(
    (port): PortView => ({ name: port.name, up: port.up, attachment: owners.get(port.name) ?? null }),
  );
  return { name, link: plain(link), ports };
}

function compareNetwork(
  name: string,
  bridges: readonly BridgeView[],
  attachments: readonly AttachmentView[],
  leases: readonly LeaseView[],
  elements: readonly OwnedElement[],
): readonly string[] {
  const isUsed = attachments.some(({ alive }) => alive);
  const tags = new Set(
    attachments.map(({ containerId, ifName }) => ownerTag(name, containerId, ifName) as string),
  );
  const byContainer = groupBy(attachments, ({ containerId }) => containerId);
  const isKnown = ({ containerId, ifName }: LeaseView) =>
    byContainer.get(containerId)?.some((each) => each.ifName === ifName || ifName === "") ?? false;
  return [
    ...bridges
      .filter(({ link }) => link === null && isUsed)
      .map((bridge) => `bridge ${bridge.name} is missing`),
    ...bridges.filter(({ link }) => link?.up === false).map((bridge) => `bridge ${bridge.name} is down`),
    ...leases
      .filter((lease) => !isKnown(lease))
      .map(({ ip, containerId, ifName }) =>
        containerId === ""
          ? `lease ${ip} is nobody's`
          : `lease ${ip} is of ${containerId} ${ifName}, which is not attached`,
      ),
    ...elements
      .filter(({ owner, tag }) => owner.network === name && !tags.has(tag))
      .map(({ text, owner }) => `${text} is of ${owner.containerId} ${owner.ifName}, which is not attached`),
  ];
}

function viewSandbox(sandbox: Sandbox, sources: Sources): SandboxView {
  const { name, containerId, netns, state, createdAt, attachments } = sandbox;
  const namespace = identifyNamespace(netns);
  const isThere = typeof namespace === "object";
  const links = namespaceAt(netns, sources)?.links.map(plain);
  const remedy = `; "netctl sandbox rm ${name}" clears it away`;
  const differences = {
    ready: [],
    changing: [
      `a connect or disconnect has begun; if it was cut off, "netctl sandbox repair ${name}" mends it`,
    ],
    unfinished: [`its creation or removal was cut off${remedy}`],
    lost: [`its namespace ${netns} is gone${remedy}`],
    damaged: [`its record is damaged${remedy}`],
  };
  return {
    name,
    containerId,
    netns,
    state,
    createdAt,
    networks: attachments.map(({ network, ifName }) => ({ network, ifName })),
    links: links ?? [],
    processes: isThere ? sources.processes.in(namespace) : [],
    differences: differences[state],
  };
}

function guarded<Value>(what: string, { problems }: Sources, read: () => Value): Value | undefined {
  try {
    return read();
  } catch (error) {
    problems.push(`Cannot read ${what}: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
