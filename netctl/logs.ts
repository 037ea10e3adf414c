import { logFilePath } from "#machine/log-file.ts";
import { gather, type Register } from "./command.ts";
import { ExitCode, UsageFailure } from "./failure.ts";
import { isContainer, isNetwork, type LineTest, parseLineFilters } from "./log/choose.ts";
import type { LogLine } from "./log/line.ts";
import { ContainerNames } from "./log/names.ts";
import { readLog } from "./log/read.ts";
import { parseMoment } from "./moment.ts";
import type { World } from "./world.ts";

interface LogsFlags {
  readonly follow?: boolean;
  readonly since?: string;
  readonly until?: string;
  readonly tail?: string;
  readonly filter: readonly string[];
  readonly json?: boolean;
}

const levels: readonly string[] = ["trace", "debug", "info", "warn", "error", "fatal"];

const fieldIs =
  (key: string) =>
  (value: string): LineTest =>
  ({ fields }) =>
    fields[key] === value;

const filters: Readonly<Record<string, (value: string) => LineTest>> = {
  network: isNetwork,
  container: isContainer,
  interface: fieldIs("ifName"),
  plugin: fieldIs("plugin"),
  verb: fieldIs("verb"),
  trace: fieldIs("trace_id"),
  level: atLeast,
};

/** @throws {UsageFailure} */
function atLeast(value: string): LineTest {
  const rank = levels.indexOf(value);
  if (rank < 0) throw new UsageFailure(`invalid filter 'level=${value}': expected ${levels.join(", ")}`);
  return ({ level }) => levels.indexOf(level) >= rank;
}

export const registerLogs: Register = (parent, invoke) => {
  parent
    .command("logs")
    .summary("Show what netd and the plugins have done, and how it went")
    .description(
      "Show the log lines of netd, of the plugins and of netctl, oldest first, all of them or those about a network or container: every ADD, DEL and CHECK with its outcome. docs/events.md",
    )
    .argument(
      "[names...]",
      "networks, sandboxes, containers by id or the beginning of it, pods as NAMESPACE/NAME",
    )
    .option("-f, --follow", "go on until Ctrl-C")
    .option("--since <time>", "begin there: 10m ago, a date, or seconds since 1970")
    .option("--until <time>", "end there")
    .option("-n, --tail <count>", "only so many of the lines that there are", "all")
    .option("--filter <key=value>", `${Object.keys(filters).join(", ")} (and above)`, gather, [])
    .option("--json", "print the lines as they were written")
    .addHelpText(
      "after",
      `
Examples:
  netctl logs web --since 1h
  netctl logs -f --filter level=warn
  netctl logs --filter trace=0af7651916cd43dd8448eb211c80319c
  netctl logs db --filter interface=eth1 --filter verb=DEL`,
    )
    .action((names: readonly string[], flags: LogsFlags, command) =>
      invoke(command, (world) => logs(names, flags, world)),
    );
};

async function logs(about: readonly string[], flags: LogsFlags, world: World): Promise<ExitCode> {
  const nowMs = Date.now();
  const tests = about.flatMap((name) => [isNetwork(name), isContainer(name)]);
  const isFiltered = parseLineFilters(flags.filter, filters);
  const sinceMs = flags.since === undefined ? 0 : parseMoment(flags.since, "--since", nowMs);
  const untilMs =
    flags.until === undefined ? Number.POSITIVE_INFINITY : parseMoment(flags.until, "--until", nowMs);
  const tail = parseTail(flags.tail ?? "all");
  const isWanted = (line: LogLine) =>
    line.timeMs >= sinceMs &&
    line.timeMs <= untilMs &&
    (tests.length === 0 || tests.some((test) => test(line))) &&
    isFiltered(line);
  const names = new ContainerNames((await world.sandboxes.list()).map(({ name }) => name));
  const print = (line: LogLine) =>
    world.io.stdout(
      `${flags.json === true ? JSON.stringify(line.fields) : textOf(line, names, world.io.colors)}\n`,
    );
  const path = logFilePath(world.environment);
  const { signal } = world.chain;
  const held: LogLine[] = [];
  const isHeld = tail !== Number.POSITIVE_INFINITY;
  const followUntilMs = flags.follow === true ? untilMs : undefined;
  let isPast = isHeld;
  const flush = () => {
    isPast = false;
    for (const line of held.splice(0)) print(line);
  };
  for await (const line of readLog(path, { past: true, followUntilMs, signal, onPresent: flush })) {
    names.learn(line);
    if (!isWanted(line)) continue;
    if (!isPast) print(line);
    else if (held.push(line) > tail) held.shift();
  }
  flush();
  return ExitCode.Ok;
}

function parseTail(text: string): number {
  if (text === "all") return Number.POSITIVE_INFINITY;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageFailure(`Cannot use --tail ${text}: expected a number, or all`);
}

/** Fields that stand at the front of a line, or say nothing to people. */
const shownElsewhere: readonly string[] = [
  "level",
  "time",
  "msg",
  "pid",
  "network",
  "containerId",
  "ifName",
  "name",
  "plugin",
  "event",
  "span_id",
  "trace_flags",
  "trace_state",
  "verb",
];

function textOf(line: LogLine, names: ContainerNames, colors: World["io"]["colors"]): string {
  const { timeMs, level, message, network, containerId, ifName, event, fields } = line;
  const where = [network, containerId === "" ? "" : names.show(containerId), ifName].filter(
    (word) => word !== "",
  );
  const { plugin } = fields;
  const what = typeof plugin === "string" && event === undefined ? `${plugin} ${message}` : message;
  const { trace_id: trace, ...others } = fields;
  const rest = Object.entries({ ...others, ...event?.attributes, trace_id: trace })
    .filter(([key, value]) => !shownElsewhere.includes(key) && value !== undefined)
    .map(([key, value]) => `${key}=${valueText(value)}`);
  const shown = `${level.padEnd(5)} ${where.length === 0 ? "-" : where.join("/")}  ${what}`;
  const paint =
    level === "error" || level === "fatal" ? colors.red : level === "warn" ? colors.yellow : String;
  return [new Date(timeMs).toISOString(), paint(shown), ...rest.map(colors.dim)].join(" ");
}

/** As logfmt writes it: in quotes where a word would end. */
function valueText(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /[\s"=]/.test(text) || text === "" ? JSON.stringify(text) : text;
}
