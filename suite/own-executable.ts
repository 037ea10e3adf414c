import { readFileSync, type Stats } from "node:fs";
import { join } from "node:path";
import { libDirectory } from "#native/lib-directory.ts";

/**
 * Tells whether an executable found in CNI_PATH is this suite's launcher, under whatever name and in whatever
 * folder it was installed: then running it would run the code that is running already. Compares the bytes, once
 * per file.
 */
export class OwnExecutable {
  readonly #launcher = join(libDirectory(), "launcher");
  readonly #known = new Map<string, boolean>();
  #bytes: Buffer | undefined;

  /** @param stats of the file, from just now */
  matches(file: string, stats: Stats): boolean {
    try {
      const identity = `${stats.dev}:${stats.ino}:${stats.mtimeMs}:${stats.size}`;
      let ours = this.#known.get(identity);
      if (ours === undefined) {
        this.#bytes ??= readFileSync(this.#launcher);
        ours = stats.size === this.#bytes.length && readFileSync(file).equals(this.#bytes);
        this.#known.set(identity, ours);
      }
      return ours;
    } catch {
      // Whatever can't be read is executed, which says what is wrong with it.
      return false;
    }
  }
}
