import { lstatSync, readdirSync, renameSync, unlink, unlinkSync } from "node:fs";
import { errorCode } from "./io-error.ts";
import { makeDirectory } from "./make-directory.ts";

/**
 * Takes files away at the price of a rename (4 µs) and frees their blocks in the background, which takes ext4 on a
 * disk mounted with `discard` about a millisecond for each file that has any.
 */
export class Trash {
  readonly #directory: string;
  readonly #pending = new Set<Promise<void>>();
  #count = 0;

  /** @param directory on the same file system as the files; made on first use, and nothing else may be in it */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Removes one file. Nothing happens if it is not there.
   * @throws Node's error where the file is there and can't be removed
   */
  discard(path: string): void {
    // Another boot may have used the same number: its file is overwritten, which is what it is here for.
    const grave = `${this.#directory}/${process.hrtime.bigint()}-${this.#count++}`;
    try {
      this.#bury(path, grave);
    } catch {
      // A full disk may have no room for the directory, or for one more name in it; to remove a file needs none.
      unlinkIfThere(path);
      return;
    }
    this.#unlink(grave);
  }

  #bury(path: string, grave: string): void {
    try {
      renameSync(path, grave);
    } catch (error) {
      if (errorCode(error) !== "ENOENT" || !isThere(path)) throw error;
      makeDirectory(this.#directory, 0o700);
      renameSync(path, grave);
    }
  }

  /** Starts to remove what a process that died has left here. */
  sweep(): void {
    let names: string[];
    try {
      names = readdirSync(this.#directory);
    } catch {
      return;
    }
    for (const name of names) this.#unlink(`${this.#directory}/${name}`);
  }

  /** Waits for all that was started. Never rejects: what is left is swept another time. */
  async flush(): Promise<void> {
    await Promise.all(this.#pending);
  }

  #unlink(path: string): void {
    const pending = new Promise<void>((resolve) => unlink(path, () => resolve())).then(() => {
      this.#pending.delete(pending);
    });
    this.#pending.add(pending);
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    // A read-only file system refuses before it looks whether there is such a file.
    if (isThere(path)) throw error;
  }
}

/** Of the name itself, where it is a link. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
