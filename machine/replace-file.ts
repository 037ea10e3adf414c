import { closeSync, openSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/**
 * Replaces or makes a file, in a directory that is there: whoever reads it meanwhile, and whoever looks after the process
 * was killed, finds the old one or the new one, whole. Not synced: `durable-file.ts` is for what must outlive a power loss.
 * @param text or parts of it, each written before the next one is asked for
 * @param mode permission bits
 * @throws Node's error
 */
export function replaceFile(path: string, text: string | Iterable<string>, mode: number): void {
  // A leading dot and a tail: whoever lists the directory passes over it. Another process writes under another name.
  const tail = `${process.pid}-${process.hrtime.bigint().toString(36)}`;
  const temporary = join(dirname(path), `.${basename(path).slice(0, 200)}.${tail}`);
  try {
    if (typeof text === "string") writeFileSync(temporary, text, { mode });
    else writeParts(temporary, text, mode);
    renameSync(temporary, path);
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  }
}

function writeParts(path: string, parts: Iterable<string>, mode: number): void {
  const fd = openSync(path, "w", mode);
  try {
    for (const part of parts) writeFileSync(fd, part);
  } finally {
    closeSync(fd);
  }
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was never made.
  }
}
