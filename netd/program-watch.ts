import { statSync } from "node:fs";

export type ProgramState = "same" | "changing" | "replaced" | "gone";

/**
 * Looks whether another version of a program is installed over the one that runs. What starts the program is the same
 * in all versions, and an installer may leave it as it is: the program itself stands beside it (suite/program.ts).
 */
export class ProgramWatch {
  readonly #files: readonly string[];
  #known: string;
  #seen: string;

  /** @param path NAME.cjs */
  constructor(path: string) {
    this.#files = [path, path.replace(/\.cjs$/, ".js")];
    this.#known = this.#seen = this.#identity();
  }

  /**
   * To be called about every second. An installer replaces one file after the other: as long as they change, "changing".
   */
  look(): ProgramState {
    const before = this.#seen;
    this.#seen = this.#identity();
    if (this.#seen === this.#known) return "same";
    if (this.#seen !== before) return "changing";
    return statSync(this.#files[0] ?? "", { throwIfNoEntry: false }) ? "replaced" : "gone";
  }

  /** What is there now is not of interest: "same" until it changes again. */
  passOver(): void {
    this.#known = this.#seen;
  }

  #identity(): string {
    return this.#files
      .map((file) => {
        const stats = statSync(file, { throwIfNoEntry: false });
        return stats ? `${stats.dev}:${stats.ino}:${stats.mtimeMs}` : "gone";
      })
      .join();
  }
}
