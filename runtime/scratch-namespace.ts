import { join } from "node:path";
import { native } from "#native/addon.ts";

/** Namespaces that nobody else knows of, to try things in. */
export class ScratchNamespaces {
  readonly #directory: string;
  readonly #paths: string[] = [];

  /** @param directory where their bind mounts are; it is there */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @returns its path */
  create(name: string): string {
    const path = join(this.#directory, name);
    native().createNamespace(path);
    this.#paths.push(path);
    return path;
  }

  /** Takes all of them away, with whatever is in them. */
  removeAll(): void {
    for (const path of this.#paths.splice(0)) native().removeNamespace(path);
  }
}
