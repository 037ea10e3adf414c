/** Fields of a line, beside what every line has: `level`, `time` (ms since 1970), `msg`. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Something that has become so on this host, for `netctl events`: docs/events.md has all of them. */
export interface LogEvent {
  /** What it is about, in Docker's words where it has one. */
  readonly type: "network" | "container" | "names" | "rules" | "engine" | "netd";
  /** What has happened to it: "connect". */
  readonly action: string;
  readonly attributes?: Readonly<Record<string, string>>;
}

/** Structured log lines. stdout belongs to the CNI result, so a log never goes there. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** Written whatever the level is, after the fact. */
  event(event: LogEvent, fields?: LogFields): void;
  /** The same log, with these fields in each line. */
  with(fields: LogFields): Log;
}

const ranks = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 } as const;
export type LogLevel = keyof typeof ranks;

/** Where lines go. */
export interface LineSink {
  readonly level: LogLevel;
  /** Without it, events are not written here. */
  readonly events?: boolean;
  /** @param line one JSON object, with its newline */
  readonly write: (line: string) => void;
}

/** What an event's line says to those who read it as a line. */
export function eventMessage({ type, action }: LogEvent): string {
  return `${type} ${action}`;
}

/**
 * One JSON line per message, in pino's shape without its 20 ms of start-up: for the standalone path, where the
 * process lives for one verb. The service logs with pino itself.
 */
export function lineLog(sinks: readonly LineSink[], bindings: LogFields = {}): Log {
  const write = (level: Exclude<LogLevel, "silent">, message: string, fields?: LogFields) => {
    const wanted = sinks.filter((sink) => ranks[level] >= ranks[sink.level]);
    put(wanted, { level, time: Date.now(), ...bindings, ...fields, msg: message });
  };
  return {
    debug: (message, fields) => write("debug", message, fields),
    info: (message, fields) => write("info", message, fields),
    warn: (message, fields) => write("warn", message, fields),
    error: (message, fields) => write("error", message, fields),
    event(event, fields) {
      const wanted = sinks.filter(({ events }) => events === true);
      put(wanted, {
        level: "info",
        time: Date.now(),
        ...bindings,
        ...fields,
        event,
        msg: eventMessage(event),
      });
    },
    with: (fields) => lineLog(sinks, { ...bindings, ...fields }),
  };
}

function put(sinks: readonly LineSink[], line: LogFields): void {
  if (sinks.length === 0) return;
  const text = `${JSON.stringify(line)}\n`;
  for (const sink of sinks) sink.write(text);
}

/** For whoever is not to say anything. */
export const silentLog: Log = lineLog([]);
