import { collectInspection } from "#netctl/inspect/collect.ts";
import { type Inspection } from "#netctl/inspect/model.ts";
import { renderInspection } from "#netctl/inspect/render.ts";
import { didYouMean } from "#runtime/nearest-word.ts";
import type { Register } from "./command.ts";
import { ExitCode, Failure, UsageFailure } from "./failure.ts";
import { writeJson } from "./io.ts";
import { KeptAttachments } from "./kept-attachments.ts";
import { collectTopology } from "./topology/collect.ts";
import {
  differencesByOwner,
  drawGraph,
  type GraphFormat,
  graphFormats,
  overlayNotes,
} from "./topology/draw.ts";
import type { NamespaceView, Topology } from "./topology/model.ts";
import { namespaceId } from "./topology/namespace-table.ts";
import { drawNamespace } from "./topology/render.ts";
import { neighbourhood, selectNamespaces } from "./topology/select.ts";
import { renderTree } from "./tree.ts";
import type { World } from "./world.ts";

export interface InspectFlags {
  readonly json?: boolean;
  readonly graph?: string | true;
}

/** What `--json` prints. */
interface Shown extends Inspection {
  /** Of the name that was asked for; without a name those that no attachment of ours explains, and the host's. */
  readonly namespaces: readonly NamespaceView[];
}

export const registerInspect: Register = (parent, invoke) => {
  parent
    .command("inspect")
    .summary("Show what the networks really are")
    .description(
      "Show networks, sandboxes, containers of any runtime and their namespaces as they are in the kernel: links, addresses, routes, leases, nftables elements; and where the records do not agree with it.",
    )
    .argument(
      "[name]",
      "a network; a sandbox; a container of any runtime by name, id or its beginning; a pod as NAMESPACE/NAME; a process id; the path of a namespace; a link of the host; host. Everything if left out",
    )
    .option("--json", "print JSON: docs/netctl.md")
    .option("--graph [format]", `draw a picture instead: ${graphFormats.join(" or ")}; svg if none is named`)
    .addHelpText(
      "after",
      `
Examples:
  netctl inspect
  netctl inspect web
  netctl inspect 4711
  netctl inspect /run/netns/blue --json
  netctl inspect --graph > network.svg
  netctl inspect --graph frontend > frontend.svg
  netctl inspect frontend --graph mermaid`,
    )
    .action((name: string | undefined, flags: InspectFlags, command) =>
      invoke(command, (world) => inspect(name, flags, world)),
    );
};

export async function inspect(
  word: string | undefined,
  flags: InspectFlags,
  world: World,
): Promise<ExitCode> {
  const { name, format } = meantBy(word, flags);
  if (format !== undefined && flags.json === true)
    throw new UsageFailure("--json and --graph exclude each other");
  const kept = new KeptAttachments(world);
  const topology = await collectTopology(world, kept);
  const whole = await collectInspection(world, topology, kept);
  const shown = name === undefined ? everything(whole, topology) : select(whole, topology, name, world);
  if (shown === undefined) throw unknownName(name ?? "", word === undefined, whole, topology);
  if (flags.json === true) writeJson(world.io, shown);
  else if (format !== undefined) {
    const namespaces = name === undefined ? topology.namespaces : neighbourhood(topology, idsIn(shown));
    const title = name === undefined ? "container networks" : `around ${name}`;
    world.io.stdout(
      await drawGraph(
        { ...topology, namespaces },
        differencesByOwner(whole),
        overlayNotes(whole),
        title,
        format,
      ),
    );
  } else world.io.stdout(render(shown, whole, topology, world));
  return ExitCode.Ok;
}

/** What stands behind `--graph` is a format, or the name where no other word is. */
function meantBy(
  word: string | undefined,
  { graph }: InspectFlags,
): { readonly name?: string; readonly format?: GraphFormat } {
  const name = word === undefined ? {} : { name: word };
  if (graph === undefined) return name;
  if (graph === true) return { ...name, format: "svg" };
  const format = graphFormats.find((each) => each === graph);
  if (format !== undefined) return { ...name, format };
  if (word === undefined) return { name: graph, format: "svg" };
  throw new UsageFailure(
    `Cannot draw "${graph}": --graph knows ${graphFormats.join(" and ")}; the one name that it may have is "${word}"`,
  );
}

/** @param isOfGraph whether it stood behind `--graph`, where it may be meant as a format */
function unknownName(
  name: string,
  isOfGraph: boolean,
  whole: Inspection,
  topology: Topology,
): Failure | UsageFailure {
  const known = [...whole.networks, ...whole.sandboxes, ...topology.namespaces].map((each) => each.name);
  const near = didYouMean(name, known) || someOf([...new Set(known)].sort());
  const kinds = "network, sandbox, container, process, namespace or link";
  return isOfGraph
    ? new UsageFailure(
        `Cannot draw "${name}": --graph knows ${graphFormats.join(" and ")}, and there is no such ${kinds}${near}`,
      )
    : new Failure(`Cannot inspect ${name}: no such ${kinds}${near}`);
}

function render(shown: Shown, whole: Inspection, topology: Topology, { io }: World): string {
  const { colors } = io;
  const namespaces = renderTree(shown.namespaces.map((each) => drawNamespace(each, topology, colors)));
  const hasNothing = shown.networks.length + shown.sandboxes.length + shown.problems.length === 0;
  return hasNothing && namespaces !== ""
    ? namespaces
    : renderInspection(shown, whole.sandboxes, colors) + namespaces;
}

/** The host's own links are shown by the networks that they belong to. */
function everything(whole: Inspection, topology: Topology): Shown {
  const explained = new Set([
    ...whole.networks.flatMap(({ attachments }) => attachments.map(({ containerId }) => containerId)),
    ...whole.sandboxes.map(({ containerId }) => containerId),
  ]);
  const namespaces = topology.namespaces.filter(
    ({ kind, containerIds }) =>
      kind !== "host" && kind !== "sandbox" && !containerIds.some((id) => explained.has(id)),
  );
  return { ...whole, namespaces, problems: [...whole.problems, ...topology.problems] };
}

/**
 * The network of that name; the sandbox or container of that name or id, with its attachments alone; any namespace.
 * Undefined where there is none of them.
 */
function select(whole: Inspection, topology: Topology, name: string, { kernel }: World): Shown | undefined {
  const isId = /^[a-zA-Z0-9_.-]{4,}$/.test(name);
  const found = selectNamespaces(topology, name, namespaceId(kernel.namespace));
  const ids = new Set(
    found.filter(({ kind }) => kind !== "host").flatMap(({ containerIds }) => containerIds),
  );
  const isContainer = (containerId: string) =>
    containerId === name || ids.has(containerId) || (isId && containerId.startsWith(name));
  const networks = whole.networks.flatMap((network) => {
    if (network.name === name || (isId && network.id.startsWith(name))) return [network];
    const attachments = network.attachments.filter(
      ({ sandbox, containerId }) => sandbox === name || isContainer(containerId),
    );
    return attachments.length === 0 ? [] : [{ ...network, attachments }];
  });
  const sandboxes = whole.sandboxes.filter(
    (sandbox) => sandbox.name === name || isContainer(sandbox.containerId),
  );
  const namespaces = found.filter(({ kind }) => kind !== "sandbox");
  if (networks.length + sandboxes.length + namespaces.length === 0) return undefined;
  return { ...whole, networks, sandboxes, namespaces };
}

const maxNamed = 20;

function someOf(names: readonly string[]): string {
  const more = names.length > maxNamed ? ` and ${names.length - maxNamed} more` : "";
  return `; there are ${names.slice(0, maxNamed).join(", ")}${more}`;
}

/** Container ids of everything that is shown, and ids of the namespaces. */
function idsIn({ networks, sandboxes, namespaces }: Shown): ReadonlySet<string> {
  return new Set([
    ...networks.flatMap(({ attachments }) => attachments.map(({ containerId }) => containerId)),
    ...sandboxes.map(({ containerId }) => containerId),
    ...namespaces.map(({ id }) => id),
  ]);
}
