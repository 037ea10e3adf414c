import type { JournalRecord } from "#journal/record.ts";
import type { CachedAttachment } from "#runtime/cache.ts";
import type { World } from "./world.ts";

/** What plugins and runtimes have kept of their attachments, read once for one look at the host, when it is asked for. */
export class KeptAttachments {
  readonly #world: Pick<World, "journal" | "chain">;
  #records: readonly JournalRecord[] | undefined;
  #cached: Promise<readonly CachedAttachment[]> | undefined;

  constructor(world: Pick<World, "journal" | "chain">) {
    this.#world = world;
  }

  /** The plugins' journal. @throws {IoError} */
  records(): readonly JournalRecord[] {
    return (this.#records ??= this.#world.journal.list());
  }

  /** A runtime's cache of results. */
  cached(): Promise<readonly CachedAttachment[]> {
    return (this.#cached ??= this.#world.chain.cache.list());
  }
}
