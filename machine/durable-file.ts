import { randomBytes } from "node:crypto";
import { link, open, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errorCode, IoError } from "./io-error.ts";
import { makeDirectory } from "./make-directory.ts";

export interface DurableFileOptions {
  /** Permission bits, whatever the umask. */
  readonly mode: number;
  /** Permission bits of the directory, where it has to be made. */
  readonly directoryMode: number;
}

/**
 * Replaces or makes a file so that after a crash or a power loss it is the old one or the new one, whole. Makes
 * its directory if that is missing.
 * @throws {IoError}
 */
export async function writeDurably(path: string, text: string, options: DurableFileOptions): Promise<void> {
  await place(path, text, options, (temporary) => rename(temporary, path));
}

/**
 * The same for a file that must not be there yet; of two callers at once, one wins.
 * @throws {IoError} EEXIST if it is there
 */
export async function createDurably(path: string, text: string, options: DurableFileOptions): Promise<void> {
  await place(path, text, options, async (temporary) => {
    await link(temporary, path);
    await unlink(temporary);
  });
}

/** Removes a file for good; does nothing if it is gone. Returns whether it was there. */
export async function removeDurably(path: string): Promise<boolean> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return false;
    throw new IoError("remove", path, error);
  }
  await syncDirectory(dirname(path));
  return true;
}

async function place(
  path: string,
  text: string,
  options: DurableFileOptions,
  put: (temporary: string) => Promise<void>,
): Promise<void> {
  const directory = dirname(path);
  // A leading dot and no known suffix: whoever reads the directory meanwhile passes over it.
  const temporary = join(directory, `.${basename(path).slice(0, 200)}.${randomBytes(6).toString("hex")}`);
  try {
    makeDirectory(directory, options.directoryMode);
    await writeSynced(temporary, text, options.mode);
    await put(temporary);
    await syncDirectory(directory);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw new IoError("write", path, error);
  }
}

async function writeSynced(path: string, text: string, mode: number): Promise<void> {
  const file = await open(path, "wx", mode);
  try {
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
