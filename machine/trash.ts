import { lstatSync, readdirSync, renameSync, unlink, unlinkSync } from "node:fs";
import { errorCode } from "./io-error.ts";
import { makeDirectory } from "./make-directory.ts";

/** After the last file, so that whoever waits for the next answer has the processors to itself. */
const restMs = 50;
/** With so many it begins at once. */
const maxGraves = 256;

/**
 * Takes files away at the price of a rename (4 µs) and frees their blocks in the background, one after the other, which
 * takes ext4 on a disk mounted with `discard` about a millisecond for each file that has any.
 */
export class Trash {
  readonly #directory: string;
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
    freeLater(grave);
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
    for (const name of names) freeLater(`${this.#directory}/${name}`);
  }
}

/** What is buried and not free yet, of all of this process, each once, however often a folder is swept. */
const graves = new Set<string>();
let timer: NodeJS.Timeout | undefined;
let emptying: Promise<void> | undefined;

/** Frees all that this process has buried, now. Never rejects: what can't be freed is swept another time. */
export async function emptyTrash(): Promise<void> {
  const all = [...graves];
  graves.clear();
  await Promise.all([emptying, ...all.map(free)]);
}

function freeLater(grave: string): void {
  graves.add(grave);
  if (emptying) return;
  clearTimeout(timer);
  if (graves.size >= maxGraves) freeAll();
  else timer = setTimeout(freeAll, restMs).unref();
}

function freeAll(): void {
  const oneByOne = async () => {
    // Also visits those that are added meanwhile. One that is deleted only when it is free is not swept up again.
    for (const grave of graves) {
      await free(grave);
      graves.delete(grave);
    }
    emptying = undefined;
  };
  emptying ??= oneByOne();
}

function free(grave: string): Promise<void> {
  return new Promise((resolve) => unlink(grave, () => resolve()));
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
