import { chmodSync, lstatSync, renameSync, rmdirSync, statSync, unlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { errorCode, IoError } from "#machine/io-error.ts";
import { makeDirectory } from "#machine/make-directory.ts";

/** sun_path of unix(7), with the NUL at its end. */
const maxPathBytes = 107;

/**
 * Makes the directory of socket and lock, or makes sure that nobody else can put files there.
 * @throws {IoError}
 */
export function prepareRunDirectory(path: string, uid: number): void {
  try {
    makeDirectory(path, 0o700);
    const stats = statSync(path);
    if (!stats.isDirectory()) throw new Error("not a directory");
    if (stats.uid !== uid && stats.uid !== 0) throw new Error(`it belongs to user ${stats.uid}`);
    if ((stats.mode & 0o022) !== 0) throw new Error("others than its owner may write there");
  } catch (cause) {
    throw new IoError("use run directory", path, cause);
  }
}

/** The name under which a server's socket can be found, in a run directory that is ours alone. */
export class SocketFile {
  readonly #path: string;
  #inode: bigint | undefined;

  /** @throws {RangeError} for a path that is longer than the kernel takes */
  constructor(path: string) {
    if (Buffer.byteLength(path) > maxPathBytes) {
      throw new RangeError(
        `Cannot listen on ${JSON.stringify(path)}: a socket's path has at most ${maxPathBytes} bytes`,
      );
    }
    this.#path = path;
  }

  /**
   * Calls `listen` with a path of its own, and gives the socket made there its name in one step. Whatever was of that
   * name before, a stale socket for one, is replaced; a directory with something in it is moved aside.
   * @throws {IoError}
   */
  async place(listen: (path: string) => Promise<void>): Promise<void> {
    // Not longer than the name itself, for the kernel's sake.
    const aside = join(dirname(this.#path), `.${basename(this.#path).slice(1)}`);
    try {
      remove(aside);
      await listen(aside);
      chmodSync(aside, 0o600);
      this.#inode = inodeOf(aside);
      if (lstatSync(this.#path, { throwIfNoEntry: false })?.isDirectory()) clear(this.#path);
      renameSync(aside, this.#path);
    } catch (cause) {
      throw new IoError("listen on", this.#path, cause);
    }
  }

  /** False once somebody has taken it away or put another in its place: nobody finds the server any more. */
  isThere(): boolean {
    return this.#inode !== undefined && inodeOf(this.#path) === this.#inode;
  }

  /** Takes it away if it is still there. */
  remove(): void {
    if (this.isThere()) remove(this.#path);
  }
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}

/** A file takes the place of another by rename, but not that of a directory. */
function clear(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (errorCode(error) !== "ENOTEMPTY") throw error;
    renameSync(directory, `${directory}.${Date.now()}`);
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}
