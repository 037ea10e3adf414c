import { logFilePath } from "#machine/log-file.ts";
import { gather, type Register } from "./command.ts";
import { ExitCode, UsageFailure } from "./failure.ts";
import { isContainer, isNetwork, type LineTest, parseLineFilters } from "./log/choose.ts";
import type { LogLine } from "./log/line.ts";
import { actorId, ContainerNames } from "./log/names.ts";
import { readLog } from "./log/read.ts";
import { parseMoment } from "./moment.ts";
import { parseTemplate, unescapeFormat } from "./template.ts";
import type { World } from "./world.ts";

interface EventsFlags {
  readonly since?: string;
  readonly until?: string;
  readonly filter: readonly string[];
  readonly format?: string;
  readonly json?: boolean;
}

const filters: Readonly<Record<string, (value: string) => LineTest>> = {
  type:
    (value) =>
    ({ event }) =>
      event?.type === value,
  event:
    (value) =>
    ({ event }) =>
      event?.action === value,
  network: isNetwork,
  container: isContainer,
  interface:
    (value) =>
    ({ ifName }) =>
      ifName === value,
  trace:
    (value) =>
    ({ fields }) =>
      fields["trace_id"] === value,
};

export const registerEvents: Register = (parent, invoke) => {
  parent
    .command("events")
    .summary("Show what happens to networks and containers, as it happens")
    .description(
      "Show networks that are created and removed, containers that join and leave them, names that come and go, rules that were put back, netd and the cluster's engine, from now on until Ctrl-C: docs/events.md.",
    )
    .option("--since <time>", "begin there: 10m ago, a date, or seconds since 1970")
    .option("--until <time>", "end there, which may be past")
    .option("-f, --filter <key=value>", Object.keys(filters).join(", "), gather, [])
    .option("--format <template>", "json, or a Go template of Type, Action, Actor, Scope, Time, TimeNano")
    .option("--json", "print one JSON object a line")
    .addHelpText(
      "after",
      `
Examples:
  netctl events
  netctl events --since 1h --until 0s --filter container=web
  netctl events --filter type=network --filter event=disconnect --format '{{.Time}} {{.Actor.Attributes.name}}'`,
    )
    .action((flags: EventsFlags, command) => invoke(command, (world) => events(flags, world)));
};

async function events(flags: EventsFlags, world: World): Promise<ExitCode> {
  const nowMs = Date.now();
  const isWanted = parseLineFilters(flags.filter, filters);
  const sinceMs = flags.since === undefined ? nowMs : parseMoment(flags.since, "--since", nowMs);
  const untilMs =
    flags.until === undefined ? Number.POSITIVE_INFINITY : parseMoment(flags.until, "--until", nowMs);
  if (sinceMs > untilMs)
    throw new UsageFailure("Cannot use --since and --until: it would end before it begins");
  const print = printer(flags);
  const names = new ContainerNames((await world.sandboxes.list()).map(({ name }) => name));
  const lines = readLog(logFilePath(world.environment), {
    past: flags.since !== undefined,
    followUntilMs: untilMs,
    signal: world.chain.signal,
  });
  for await (const line of lines) {
    names.learn(line);
    if (line.event === undefined || line.timeMs < sinceMs || line.timeMs > untilMs || !isWanted(line))
      continue;
    world.io.stdout(`${print(describe(line, names))}\n`);
  }
  return ExitCode.Ok;
}

/** An event with Docker's fields. */
function describe(line: LogLine, names: ContainerNames) {
  const { timeMs, event, network, containerId, ifName, fields } = line;
  const { type = "", action = "", attributes: { driver, ...more } = {} } = event ?? {};
  const name = type === "network" ? network : names.find(containerId);
  const word = (key: string) => (typeof fields[key] === "string" ? fields[key] : "");
  const attributes = {
    ...given("container", type === "container" ? "" : containerId),
    ...given("containerName", type === "network" ? (names.find(containerId) ?? "") : ""),
    ...given("interface", ifName),
    ...given("name", name ?? ""),
    ...given("network", type === "network" ? "" : network),
    ...given("type", type === "network" ? (driver ?? word("plugin")) : ""),
    ...given("trace_id", word("trace_id")),
    ...more,
  };
  return {
    Type: type,
    Action: action,
    Actor: {
      ID: actorId(line),
      Attributes: Object.fromEntries(Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    },
    scope: "local",
    time: Math.floor(timeMs / 1000),
    timeNano: timeMs * 1e6,
  };
}

function given(key: string, value: string): Readonly<Record<string, string>> {
  return value === "" ? {} : { [key]: value };
}

const noAttributes: Readonly<Record<string, string>> = Object.fromEntries(
  [
    "addresses",
    "attachments",
    "container",
    "containerName",
    "elements",
    "error",
    "failed",
    "interface",
    "mac",
    "name",
    "names",
    "network",
    "reason",
    "rules",
    "tables",
    "trace_id",
    "type",
  ].map((key) => [key, ""]),
);

type EventView = ReturnType<typeof describe>;

function printer({ format, json }: EventsFlags): (event: EventView) => string {
  if (json === true || format === "json" || format === "{{json .}}") return (event) => JSON.stringify(event);
  if (format === undefined) return textOf;
  const template = parseTemplate(unescapeFormat(format));
  // Go's names of the fields that JSON writes in small letters, and no word for what an event has not.
  return (event) =>
    template({
      ...event,
      Actor: { ...event.Actor, Attributes: { ...noAttributes, ...event.Actor.Attributes } },
      Scope: event.scope,
      Time: event.time,
      TimeNano: event.timeNano,
      ID: event.Actor.ID,
    });
}

function textOf({ Type, Action, Actor, timeNano }: EventView): string {
  const pairs = Object.entries(Actor.Attributes).map(([key, value]) => `${key}=${value}`);
  const words = [new Date(timeNano / 1e6).toISOString(), Type, Action, Actor.ID];
  return `${words.filter((word) => word !== "").join(" ")}${pairs.length > 0 ? ` (${pairs.join(", ")})` : ""}`;
}
