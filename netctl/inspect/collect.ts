import type { JournalRecord } from "#journal/record.ts";
import { type Link, listLinks, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readBootId } from "#machine/boot-id.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { parseIfName } from "#net/ifname.ts";
import { type ForeignDrops, readForeignDrops } from "#netctl/foreign-drops.ts";
import { describeNetwork, type Network } from "#netctl/network-listing.ts";
import type { World } from "#netctl/world.ts";
import { ownerTag } from "#nftables/owner.ts";
import { type KnownAttachment, listAttachments } from "#runtime/attachments.ts";
import type { CachedAttachment } from "#runtime/cache.ts";
import { ProcessTable } from "#runtime/namespace-processes.ts";
import type { Sandbox } from "#runtime/sandbox.ts";
import { compareAttachment } from "./differences.ts";
import { type OwnedElement, readOwnedElements } from "./element-view.ts";
import { masqueradedAddresses, readExpectation } from "./expectation.ts";
import { type LeaseView, readLeases } from "./lease-view.ts";
import { viewLink } from "./link-view.ts";
import type {
  AttachmentView,
  BridgeView,
  Inspection,
  JournalView,
  NetworkView,
  PortView,
  SandboxView,
} from "./model.ts";

/** What is read once for all networks. */
interface Sources {
  readonly host: NetworkNamespace;
  readonly hostLinks: readonly Link[];
  readonly bootId: string;
  readonly cached: readonly CachedAttachment[];
  readonly records: readonly JournalRecord[];
  readonly sandboxes: readonly Sandbox[];
  readonly processes: ProcessTable;
  /** Undefined where they can't be read. */
  readonly elements: readonly OwnedElement[] | undefined;
  /** Of all networks; undefined where other firewalls can't be read. */
  readonly foreign: ForeignDrops | undefined;
  readonly problems: string[];
}

/**
 * Looks at everything that this host's networks and sandboxes are: configuration, records, and what the kernel
 * has. What can't be looked at becomes a problem in the answer, and hides nothing else.
 */
export async function collectInspection(world: World): Promise<Inspection> {
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
  const records = (await attempt("the journal", () => world.journal.list())) ?? [];
  const foreign = await attempt("other firewalls", () => readForeignDrops(host, networks, records));
  problems.push(...(foreign?.problems ?? []));
  const sources: Sources = {
    host,
    hostLinks: listLinks(host),
    bootId: readBootId(),
    cached: (await attempt("cached results", () => world.chain.cache.list())) ?? [],
    records,
    foreign,
    sandboxes: (await attempt("sandboxes", () => world.sandboxes.list())) ?? [],
    processes: ProcessTable.read(),
    elements: await attempt("nftables", readOwnedElements),
    problems,
  };
  const known = (await attempt("attachments", () => listAttachments(world.journal, world.chain.cache))) ?? [];
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
    sandboxes: sources.sandboxes.map((sandbox) => viewSandbox(sandbox, sources, world)),
    problems,
  };
}

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
  network: Network,
  known: readonly KnownAttachment[],
  sources: Sources,
  world: World,
): NetworkView {
  const { name, id, driver, subnets, configured } = network;
  const plugins = configured.list.plugins.map(({ json }) => json);
  const leases = guarded(`leases of network ${name}`, sources, () =>
    readLeases(name, plugins, world.directories.leases),
  );
  const nameOf = ({ sandbox, containerId, ifName }: AttachmentView) => `${sandbox ?? containerId} ${ifName}`;
  const attachments = known
    .map((each) => viewAttachment(network, each, leases, sources, world))
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  const bridges = network.bridges.map((bridge) => viewBridge(bridge, attachments, sources));
  return {
    name,
    id,
    driver,
    path: configured.path,
    cniVersion: configured.list.cniVersion,
    plugins: configured.list.plugins.map(({ type }) => type),
    subnets,
    bridges,
    attachments,
    blocked: (sources.foreign?.drops ?? [])
      .filter((each) => each.network === name && !each.isMinor)
      .map(({ bridge, owner, evidence, remedy, isCertain }) => ({
        bridge,
        owner,
        evidence,
        remedy,
        certain: isCertain,
      })),
    differences: compareNetwork(name, bridges, attachments, leases ?? [], sources.elements ?? []),
  };
}

function viewAttachment(
  network: Network,
  known: KnownAttachment,
  leases: readonly LeaseView[] | undefined,
  sources: Sources,
  world: World,
): AttachmentView {
  const { containerId, ifName, netns, isAlive } = known;
  const isMine = (each: { readonly containerId: string; readonly ifName: string }) =>
    each.containerId === containerId && (each.ifName === ifName || each.ifName === "");
  const cached = sources.cached.find((each) => each.network === network.name && isMine(each));
  const records = sources.records.filter(({ key }) => key.network === network.name && isMine(key));
  const expectation = readExpectation(network.configured.list, ifName, cached, records);
  const { inside, outside } = lookAtLinks(known, expectation?.hostLinks ?? [], sources, world);
  const tag = ownerTag(network.name, containerId, ifName);
  const attachment = {
    network: network.name,
    containerId,
    sandbox: sources.sandboxes.find((each) => each.containerId === containerId)?.name ?? null,
    ifName,
    netns,
    alive: isAlive,
    inside,
    outside,
    addresses: expectation?.addresses ?? [],
    leases: (leases ?? []).filter(isMine).map(({ ip }) => ip),
    elements: (sources.elements ?? []).filter((each) => each.tag === tag).map(({ text }) => text),
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
  world: World,
): Pick<AttachmentView, "inside" | "outside"> {
  const { host, hostLinks } = sources;
  const named = hostLinks.filter(
    ({ name, kind }) => kind !== "bridge" && expected.some((each) => each.name === name),
  );
  const view = (links: readonly Link[]) => links.map((link) => viewLink(host, link));
  if (!isAlive) return { inside: null, outside: view(named) };
  const found = guarded(`namespace ${netns}`, sources, () =>
    within(netns, world, (namespace) => {
      const link = readLink(namespace, parseIfName(ifName));
      return link === undefined ? undefined : { link, inside: viewLink(namespace, link) };
    }),
  );
  const peer = found === undefined ? undefined : hostLinks.find((link) => isPeer(link, found.link));
  const outside = peer === undefined || named.includes(peer) ? named : [peer, ...named];
  return { inside: found?.inside ?? null, outside: view(outside) };
}

/** Each end of a veth pair names the other's ifindex; by chance alone both do so only in one of a million pairs. */
function isPeer(link: Link, inside: Link): boolean {
  return (
    inside.kind === "veth" &&
    link.kind === "veth" &&
    inside.parent === link.ifindex &&
    link.parent === inside.ifindex &&
    link.parentNamespaceId !== undefined
  );
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
  const link = sources.hostLinks.find((each) => each.name === name);
  if (link === undefined) return { name, link: null, ports: [] };
  const ports = sources.hostLinks
    .filter(({ master }) => master === link.ifindex)
    .map((port): PortView => {
      const owner = attachments.find(({ outside }) => outside.some((each) => each.name === port.name));
      const attachment =
        owner === undefined ? null : { containerId: owner.containerId, ifName: owner.ifName };
      return { name: port.name, up: port.up, attachment };
    });
  return { name, link: viewLink(sources.host, link), ports };
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
  const isKnown = ({ containerId, ifName }: LeaseView) =>
    attachments.some((each) => each.containerId === containerId && (each.ifName === ifName || ifName === ""));
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

function viewSandbox(sandbox: Sandbox, sources: Sources, world: World): SandboxView {
  const { name, containerId, netns, state, createdAt, attachments } = sandbox;
  const namespace = identifyNamespace(netns);
  const isThere = typeof namespace === "object";
  const links = !isThere
    ? []
    : guarded(`namespace ${netns}`, sources, () =>
        within(netns, world, (inside) => listLinks(inside).map((link) => viewLink(inside, link))),
      );
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

function within<Value>(netns: string, world: World, read: (namespace: NetworkNamespace) => Value): Value {
  const namespace = world.kernel.open(netns);
  try {
    return read(namespace);
  } finally {
    namespace.close();
  }
}

function guarded<Value>(what: string, { problems }: Sources, read: () => Value): Value | undefined {
  try {
    return read();
  } catch (error) {
    problems.push(`Cannot read ${what}: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
