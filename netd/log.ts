import { fstatSync, writeSync } from "node:fs";
import { type Logger, pino } from "pino";
import { eventMessage, type Log } from "#machine/log.ts";
import { LogFile } from "#machine/log-file.ts";
import type { NetdOptions } from "./options.ts";

/** A log whose lines are written together. */
export interface ServiceLog extends Log {
  /** Writes what is not written yet: to be called before somebody is told of what the lines are about. */
  flush(): void;
}

/**
 * pino's JSON lines. Those of one turn of the event loop are written at its end, or by `flush()`, or when the process
 * exits, all in one call: to write each by itself took a tenth of a millisecond of every ADD. A disk that is full or a
 * reader that has gone costs the lines, nothing else.
 * They go to the file that `netctl logs` reads, and to stderr where no other file is named: a service manager keeps them.
 */
export function openLog({ logLevel, logFile, logsToStderr }: NetdOptions, pid: number): ServiceLog {
  const file = new LogFile(logFile);
  const toStderr = logsToStderr && !isNullDevice(2);
  const lines = new Lines((text) => {
    file.append(text);
    if (toStderr) writeQuietly(2, text);
  });
  process.on("exit", () => lines.flush());
  // The words of the plugins' own lines, which stand in the same file.
  const formatters = { level: (label: string) => ({ level: label }) };
  const options = { level: logLevel, base: { pid }, formatters };
  return { ...logOf(pino(options, lines)), flush: () => lines.flush() };
}

/** What pino writes to. */
class Lines {
  readonly #put: (text: string) => void;
  #text = "";

  constructor(put: (text: string) => void) {
    this.#put = put;
  }

  write(line: string): void {
    if (this.#text === "") setImmediate(() => this.flush());
    this.#text += line;
  }

  flush(): void {
    if (this.#text === "") return;
    const text = this.#text;
    this.#text = "";
    this.#put(text);
  }
}

/** Where the streams of a netd lead that was started on demand. */
function isNullDevice(fd: number): boolean {
  try {
    // Major and minor number of /dev/null, as stat(2) puts them together.
    return fstatSync(fd).rdev === 0x103;
  } catch {
    return true;
  }
}

function writeQuietly(fd: number, text: string): void {
  try {
    writeSync(fd, text);
  } catch {
    // There is nobody to tell.
  }
}

function logOf(logger: Logger): Log {
  return {
    debug: (message, fields) => logger.debug(fields ?? {}, message),
    info: (message, fields) => logger.info(fields ?? {}, message),
    warn: (message, fields) => logger.warn(fields ?? {}, message),
    error: (message, fields) => logger.error(fields ?? {}, message),
    event(event, fields) {
      const always = logger.isLevelEnabled("info") ? logger : logger.child({}, { level: "info" });
      always.info({ ...fields, event }, eventMessage(event));
    },
    with: (fields) => logOf(logger.child(fields)),
  };
}
