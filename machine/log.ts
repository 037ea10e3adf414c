/** Structured log lines. stdout belongs to the CNI result, so a log never goes there. */
export interface Log {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

const ranks = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 } as const;
export type LogLevel = keyof typeof ranks;

/**
 * One JSON line per message, in pino's shape without its 20 ms of start-up: for the standalone path, where the
 * process lives for one verb. The service logs with pino itself.
 */
export function lineLog(level: LogLevel, write: (line: string) => void): Log {
  const at =
    (name: Exclude<LogLevel, "silent">) => (message: string, fields?: Readonly<Record<string, unknown>>) => {
      if (ranks[name] < ranks[level]) return;
      write(`${JSON.stringify({ level: name, time: Date.now(), ...fields, msg: message })}\n`);
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
