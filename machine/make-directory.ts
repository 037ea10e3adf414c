import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { errorCode } from "./io-error.ts";

/**
 * Makes a directory and its parents, like `mkdir -p`. Node's own `recursive` never returns where the parent is there
 * and the kernel still says ENOENT, as below /proc.
 * @returns the topmost directory that was made; `undefined` if `path` was there
 * @throws Node's error
 */
export function makeDirectory(path: string, mode: number): string | undefined {
  try {
    mkdirSync(path, mode);
    return path;
  } catch (error) {
    const parent = dirname(path);
    if (errorCode(error) === "EEXIST") return undefined;
    if (errorCode(error) !== "ENOENT" || parent === path) throw error;
    const top = makeDirectory(parent, mode);
    // Whether or not the parent was there: once more, and no further.
    return makeOne(path, mode) ? (top ?? path) : top;
  }
}

function makeOne(path: string, mode: number): boolean {
  try {
    mkdirSync(path, mode);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}
