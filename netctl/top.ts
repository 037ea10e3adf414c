import prettyBytes from "pretty-bytes";
import type { Register } from "./command.ts";
import { parseDuration } from "./duration.ts";
import { ExitCode, UsageFailure } from "./failure.ts";
import { rest } from "./rest.ts";
import { renderTable } from "./table.ts";
import { countConnections } from "./top/connections.ts";
import { type Look, type Rate, ratesBetween } from "./top/rates.ts";
import { collectTopology } from "./topology/collect.ts";
import type { NamespaceView, Topology } from "./topology/model.ts";
import { namespaceId } from "./topology/namespace-table.ts";
import { noNamespace, selectNamespaces } from "./topology/select.ts";
import type { World } from "./world.ts";

interface TopFlags {
  readonly interval: string;
  readonly samples?: string;
  readonly sort: string;
  readonly json?: boolean;
}

const orders: Readonly<Record<string, (rate: Rate) => number>> = {
  rate: ({ rxBytes, txBytes }) => rxBytes + txBytes,
  packets: ({ rxPackets, txPackets }) => rxPackets + txPackets,
  drops: ({ dropped, errors }) => dropped + errors,
  connections: ({ connections }) => connections ?? 0,
};

export const registerTop: Register = (parent, invoke) => {
  parent
    .command("top")
    .summary("Show live rates, drops and connections of each container")
    .description(
      "Show what goes through the containers' interfaces, the busiest first, as each container sees it: rates, packets, drops, and the connections that the host tracks. Ends with Ctrl-C.",
    )
    .argument(
      "[names...]",
      "sandboxes, containers, pods, process ids, namespaces, or host; all containers if left out",
    )
    .option("-i, --interval <time>", "between two looks", "2s")
    .option("-n, --samples <count>", "end after so many")
    .option("-s, --sort <order>", `what comes first: ${Object.keys(orders).join(", ")}`, "rate")
    .option("--json", "print one JSON object a look")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl top\n  netctl top web --interval 1s\n  netctl top --json -n 1",
    )
    .action((names: readonly string[], flags: TopFlags, command) =>
      invoke(command, (world) => top(names, flags, world)),
    );
};

async function top(names: readonly string[], flags: TopFlags, world: World): Promise<ExitCode> {
  const intervalMs = parseDuration(flags.interval, `--interval ${flags.interval}`);
  if (intervalMs < 100) throw new UsageFailure(`Cannot use --interval ${flags.interval}: 100ms is the least`);
  const samples = flags.samples === undefined ? Number.POSITIVE_INFINITY : Number(flags.samples);
  if (Number.isNaN(samples) || samples < 1)
    throw new UsageFailure(`Cannot use --samples ${flags.samples}: expected a number, 1 or more`);
  const order = orders[flags.sort];
  if (order === undefined)
    throw new UsageFailure(`Cannot use --sort ${flags.sort}: expected ${Object.keys(orders).join(", ")}`);
  const { signal } = world.chain;
  let before = await look(world);
  for (let taken = 0; taken < samples; taken++) {
    if (!(await rest(intervalMs, signal))) break;
    const now = await look(world);
    const isShown = choose(names, now.topology, world);
    const rates = ratesBetween(before, now, isShown).toSorted((a, b) => order(b) - order(a));
    if (flags.json === true)
      world.io.stdout(`${JSON.stringify({ time: new Date().toISOString(), rates })}\n`);
    else world.io.redraw(render(rates, now, world));
    before = now;
  }
  return ExitCode.Ok;
}

async function look(world: World): Promise<Look> {
  const topology = await collectTopology(world);
  const counts = await countConnections(world);
  const connections = counts === null ? undefined : new Map(Object.entries(counts));
  return { topology, connections, atMs: performance.now() };
}

function choose(
  names: readonly string[],
  topology: Topology,
  { kernel }: World,
): (each: NamespaceView) => boolean {
  if (names.length === 0) return ({ kind }) => kind !== "host";
  const ids = new Set(
    names.flatMap((name) => {
      const found = selectNamespaces(topology, name, namespaceId(kernel.namespace));
      if (found.length === 0) throw noNamespace(topology, name);
      return found.map(({ id }) => id);
    }),
  );
  return ({ id }) => ids.has(id);
}

function render(rates: readonly Rate[], { topology, connections }: Look, { io }: World): string {
  const { colors } = io;
  const rows = rates.map((rate) => [
    rate.name,
    rate.link,
    rate.network ?? "",
    rateText(rate.rxBytes),
    rateText(rate.txBytes),
    Math.round(rate.rxPackets).toString(),
    Math.round(rate.txPackets).toString(),
    rate.dropped + rate.errors === 0 ? "0" : colors.red((rate.dropped + rate.errors).toFixed(1)),
    rate.connections === null ? "?" : rate.connections.toString(),
  ]);
  const heads = [
    "CONTAINER",
    "LINK",
    "NETWORK",
    "RECEIVED",
    "SENT",
    "PACKETS IN",
    "OUT",
    "LOST/S",
    "CONNECTIONS",
  ];
  const count = topology.namespaces.filter(({ kind }) => kind !== "host").length;
  const about = connections === undefined ? "; connections can't be counted here" : "";
  return `${new Date().toISOString()}  ${count} namespaces${about}\n\n${renderTable(heads, rows)}`;
}

const rateText = (bytes: number) => `${prettyBytes(Math.round(bytes), { binary: true })}/s`;
