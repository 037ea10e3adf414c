import type { Entry, Snapshot } from "#engine/engine.ts";
import type { Keys } from "./keys.ts";
import { NameTable } from "./name-table.ts";

/** All that there is of a cluster at one revision, taken in as it comes: a list of an engine, or what is on disk. */
export class ClusterList {
  readonly names: NameTable;
  /** All but names. */
  readonly others = new Map<string, Entry>();
  #revision = 0;

  constructor(keys: Keys) {
    this.names = new NameTable(keys);
  }

  get revision(): number {
    return this.#revision;
  }

  /** @param part may be all of it */
  add({ revision, entries }: Snapshot): void {
    this.#revision = revision;
    for (const entry of entries) this.addEntry(entry);
  }

  addEntry(entry: Entry): void {
    if (this.names.covers(entry.key)) this.names.set(entry);
    else this.others.set(entry.key, entry);
  }
}

export function listOf(keys: Keys, snapshot: Snapshot): ClusterList {
  const list = new ClusterList(keys);
  list.add(snapshot);
  return list;
}
