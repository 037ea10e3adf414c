import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errorCode } from "#machine/io-error.ts";
import type { InstalledFile } from "./manifest.ts";

/** A file that is to be installed, with what shall be in it. */
export interface PlannedFile {
  readonly path: string;
  readonly content: Uint8Array;
  readonly mode: number;
}

export const hashOf = (content: Uint8Array) => createHash("sha256").update(content).digest("hex");

/** Undefined where there is none. */
export async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Whole or not at all, also for who executes it at that very moment. */
export async function putFile({ path, content, mode }: PlannedFile): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const temporary = join(dirname(path), `.${basename(path)}.netctl-${process.pid}`);
  try {
    const file = await open(temporary, "w", mode);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(temporary, mode);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Keeps what stands at a path, with its mode, beside the manifest. */
export async function keepPrevious(path: string, kept: string): Promise<void> {
  await mkdir(dirname(kept), { recursive: true, mode: 0o700 });
  await copyFile(path, kept);
  await chmod(kept, (await stat(path)).mode & 0o7777);
}

/**
 * Puts back what was before, or takes the file away where nothing was.
 * @returns false where somebody else has put something there since; it stays
 */
export async function restoreFile({ path, hash, previous }: InstalledFile): Promise<boolean> {
  const present = await readIfThere(path);
  if (present !== undefined && hashOf(present) !== hash) return false;
  const before = previous === null ? undefined : await readIfThere(previous);
  if (before === undefined || previous === null) await rm(path, { force: true });
  else await putFile({ path, content: before, mode: (await stat(previous)).mode & 0o7777 });
  return true;
}
