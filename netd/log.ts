import { pino } from "pino";
import type { Log } from "#machine/log.ts";
import type { NetdOptions } from "./options.ts";

/** pino's JSON lines, written at once. A disk that is full or a reader that has gone costs the line, nothing else. */
export function openLog({ logLevel, logFile }: NetdOptions, pid: number): Log {
  const destination = pino.destination({ dest: logFile ?? 2, sync: true, mkdir: true });
  destination.on("error", () => {});
  const logger = pino({ level: logLevel, base: { pid } }, destination);
  return {
    debug: (message, fields) => logger.debug(fields ?? {}, message),
    info: (message, fields) => logger.info(fields ?? {}, message),
    warn: (message, fields) => logger.warn(fields ?? {}, message),
    error: (message, fields) => logger.error(fields ?? {}, message),
  };
}
