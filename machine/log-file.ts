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

export interface LogFileOptions {
  readonly limitBytes?: number;
  /** For who writes often: it costs two system calls a line in place of four. */
  readonly keepOpen?: boolean;
}

interface OpenFile {
  readonly fd: number;
  readonly dev: number;
  readonly ino: number;
}

/**
 * A file of lines that several processes append to. Which file has its name is looked at for each line, so that whoever
 * takes it away or replaces it, as logrotate does, need tell nobody.
 */
export class LogFile {
  readonly #path: string;
  readonly #limitBytes: number;
  readonly #keepOpen: boolean;
  #kept: OpenFile | undefined;

  constructor(path: string, { limitBytes = defaultLimitBytes, keepOpen = false }: LogFileOptions = {}) {
    this.#path = path;
    this.#limitBytes = limitBytes;
    this.#keepOpen = keepOpen;
  }

  /** @param lines with their newlines. A disk that is full, or refuses, costs them and nothing else. */
  append(lines: string): void {
    try {
      const present = this.#kept && statSync(this.#path, { throwIfNoEntry: false });
      if (present && this.#kept && present.ino === this.#kept.ino && present.dev === this.#kept.dev) {
        this.#write(this.#kept, lines, present.size);
        return;
      }
      this.#close();
      const fd = openFile(this.#path);
      const { dev, ino, size } = fstatSync(fd);
      this.#kept = { fd, dev, ino };
      this.#write(this.#kept, lines, size);
    } catch {
      // There is nobody to tell.
    } finally {
      if (!this.#keepOpen) this.#close();
    }
  }

  /** In one call, so that lines of two processes never mix. */
  #write({ fd, ino }: OpenFile, lines: string, sizeBefore: number): void {
    const written = writeSync(fd, lines);
    if (sizeBefore + written >= this.#limitBytes) this.#beginAnew(ino);
  }

  #beginAnew(ino: number): void {
    // Another process may have been first.
    if (statSync(this.#path).ino === ino) renameSync(this.#path, olderLogFile(this.#path));
  }

  #close(): void {
    if (!this.#kept) return;
    const { fd } = this.#kept;
    this.#kept = undefined;
    closeSync(fd);
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
