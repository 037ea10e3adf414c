import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Snapshot } from "#engine/engine.ts";
import { replaceFile } from "#machine/replace-file.ts";

/** Something that was known of the cluster last, on disk, for a start without the engine. */
export class KnownFile {
  readonly #path: string;
  readonly #pauseFactor: number;
  /** The one that was written last. */
  #saved: number | undefined;
  #savedAtMs = Number.NEGATIVE_INFINITY;
  #tookMs = 0;

  /**
   * @param directory the overlay's
   * @param pauseFactor how much longer than writing it takes the pause between two writings is, at least
   */
  constructor(directory: string, name: string, pauseFactor = 0) {
    this.#path = join(directory, name);
    this.#pauseFactor = pauseFactor;
  }

  /** @returns undefined where there is none, or a damaged one: the engine is asked */
  load(): Snapshot | undefined {
    try {
      const snapshot = JSON.parse(readFileSync(this.#path, "utf8")) as Snapshot;
      return Array.isArray(snapshot.entries) ? snapshot : undefined;
    } catch {
      return undefined;
    }
  }

  /**
   * @param count grows with each change: nothing is written for one that was written last
   * @param isLast also within the pause
   * @throws Node's error
   */
  save(count: number, snapshot: () => Snapshot, isLast = false): void {
    if (count === this.#saved) return;
    const startMs = performance.now();
    if (!isLast && startMs - this.#savedAtMs < this.#pauseFactor * this.#tookMs) return;
    replaceFile(this.#path, JSON.stringify(snapshot()), 0o600);
    this.#saved = count;
    this.#savedAtMs = performance.now();
    this.#tookMs = this.#savedAtMs - startMs;
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
