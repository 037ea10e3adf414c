import { closeSync, constants, fstatSync, openSync, renameSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { errorCode } from "./io-error.ts";
import { makeDirectory } from "./make-directory.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** A file that is longer becomes the older one, and the older one goes: about 20,000 attachments come and gone each. */
const defaultLimitBytes = 16 * 1024 * 1024;

/**
 * Where netd and the plugins write their lines: NETCTL_LOG_FILE; else `log/netctl.log` below NETCTL_STATE_DIR where that
 * is set, and /var/log/netctl/netctl.log where it is not.
 * @param stateDirectory NETCTL_STATE_DIR, or what takes its place on a command line
 */
export function logFilePath(
  environment: Environment,
  stateDirectory = environment["NETCTL_STATE_DIR"],
): string {
  const named = environment["NETCTL_LOG_FILE"];
  if (named) return named;
  return stateDirectory ? `${stateDirectory}/log/netctl.log` : "/var/log/netctl/netctl.log";
}

/** What was written before the file began anew. */
export function olderLogFile(path: string): string {
  return `${path}.1`;
}

/**
 * A file of lines that several processes append to. Which file has its name is looked at each time, so that whoever
 * takes it away or replaces it, as logrotate does, need tell nobody. It is open for no longer than that: a disk with a
 * file that is open for writing can't be mounted read-only, or taken away.
 */
export class LogFile {
  readonly #path: string;
  readonly #limitBytes: number;

  constructor(path: string, limitBytes = defaultLimitBytes) {
    this.#path = path;
    this.#limitBytes = limitBytes;
  }

  /** @param lines with their newlines. A disk that is full, or refuses, costs them and nothing else. */
  append(lines: string): void {
    try {
      const fd = openFile(this.#path);
      try {
        // In one call, so that lines of two processes never mix.
        writeSync(fd, lines);
        const { ino, size } = fstatSync(fd);
        if (size >= this.#limitBytes) this.#beginAnew(ino);
      } finally {
        closeSync(fd);
      }
    } catch {
      // There is nobody to tell.
    }
  }

  #beginAnew(ino: number): void {
    // Another process may have been first.
    if (statSync(this.#path).ino === ino) renameSync(this.#path, olderLogFile(this.#path));
  }
}

function openFile(path: string): number {
  // Not where a terminal or a pipe without a reader would keep the process waiting.
  const flags =
    constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOCTTY | constants.O_NONBLOCK;
  try {
    return openSync(path, flags, 0o600);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
    makeDirectory(dirname(path), 0o700);
    return openSync(path, flags, 0o600);
  }
}
