import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Snapshot } from "#engine/engine.ts";
import { replaceFile } from "#machine/replace-file.ts";

/** What was known of the cluster last, on disk, for a start without the engine. */
export class KnownFile {
  readonly #path: string;
  #savedRevision = 0;

  /** @param directory the overlay's */
  constructor(directory: string) {
    this.#path = join(directory, "known.json");
  }

  /** @returns undefined where there is none, or a damaged one: the engine is asked */
  load(): Snapshot | undefined {
    try {
      const snapshot = JSON.parse(readFileSync(this.#path, "utf8")) as Snapshot;
      if (!Array.isArray(snapshot.entries)) return undefined;
      this.#savedRevision = snapshot.revision;
      return snapshot;
    } catch {
      return undefined;
    }
  }

  /** Writes nothing where `revision` was written last. @throws Node's error */
  save(revision: number, snapshot: () => Snapshot): void {
    if (revision === this.#savedRevision) return;
    replaceFile(this.#path, JSON.stringify(snapshot()), 0o600);
    this.#savedRevision = revision;
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
