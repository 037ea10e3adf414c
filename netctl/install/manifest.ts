import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJsonObject } from "#cni/json.ts";
import { removeDurably, writeDurably } from "#machine/durable-file.ts";
import { errorCode } from "#machine/io-error.ts";
import { Failure } from "#netctl/failure.ts";

/** One file that was installed. */
export interface InstalledFile {
  readonly path: string;
  /** SHA-256 of what was put there: what is otherwise by now is somebody else's. */
  readonly hash: string;
  /** Where what stood there before is kept; null where nothing did. */
  readonly previous: string | null;
}

/** What one `netctl install` has done, written before it does it. */
export class Manifest {
  readonly directory: string;
  readonly #file: string;

  /** @param bin the directory of the executables, of which there is one manifest */
  constructor(stateDirectory: string, bin: string) {
    const name = createHash("sha256").update(bin).digest("hex").slice(0, 16);
    this.directory = join(stateDirectory, "install", name);
    this.#file = join(stateDirectory, "install", `${name}.json`);
  }

  /** Undefined where nothing was installed. @throws {Failure} for a damaged one */
  async read(): Promise<readonly InstalledFile[] | undefined> {
    let text: string;
    try {
      text = await readFile(this.#file, "utf8");
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw error;
    }
    try {
      const json: unknown = JSON.parse(text);
      const files = isJsonObject(json) ? json["files"] : undefined;
      if (!Array.isArray(files)) throw new Error("it has no files");
      return (files as readonly unknown[]).map((each) => {
        const { path, hash, previous } = isJsonObject(each) ? each : {};
        if (typeof path !== "string" || typeof hash !== "string")
          throw new Error("a file lacks path or hash");
        return { path, hash, previous: typeof previous === "string" ? previous : null };
      });
    } catch (error) {
      throw new Failure(
        `Cannot use ${this.#file}: ${error instanceof Error ? error.message : String(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  async write(files: readonly InstalledFile[]): Promise<void> {
    const text = `${JSON.stringify({ version: 1, files }, null, 2)}\n`;
    await writeDurably(this.#file, text, { mode: 0o600, directoryMode: 0o700 });
  }

  async remove(): Promise<void> {
    await removeDurably(this.#file);
  }
}
