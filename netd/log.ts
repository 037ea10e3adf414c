import { type Logger, multistream, pino, type StreamEntry } from "pino";
import { eventMessage, type Log } from "#machine/log.ts";
import { LogFile } from "#machine/log-file.ts";
import type { NetdOptions } from "./options.ts";

/**
 * pino's JSON lines, written at once. A disk that is full or a reader that has gone costs the line, nothing else.
 * They go to the file that `netctl logs` reads, and to stderr where no other file is named: a service manager keeps them.
 */
export function openLog({ logLevel, logFile, logsToStderr }: NetdOptions, pid: number): Log {
  const file = new LogFile(logFile);
  const streams: StreamEntry[] = [{ level: "trace", stream: { write: (line: string) => file.append(line) } }];
  if (logsToStderr) {
    const stderr = pino.destination({ dest: 2, sync: true });
    stderr.on("error", () => {});
    streams.push({ level: "trace", stream: stderr });
  }
  // The words of the plugins' own lines, which stand in the same file.
  const formatters = { level: (label: string) => ({ level: label }) };
  const options = { level: logLevel, base: { pid }, formatters };
  return logOf(pino(options, multistream(streams)));
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
