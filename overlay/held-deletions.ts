import type { Change } from "#engine/engine.ts";
import type { Keys } from "./keys.ts";

/** How long nothing more may vanish before what has vanished is believed. */
const quietMs = 1000;

/**
 * What a watch tells of as gone, until it is sure that not everything goes. A list can be judged as a whole; where somebody
 * deletes all of a cluster's keys, or Kubernetes takes away the kind that they are of, a watch tells of them one by one,
 * in no particular order. So what carries packets is let go of a moment later, or as soon as something is written,
 * which shows that there is somebody who goes on with what is left.
 */
export class HeldDeletions {
  readonly #keys: Keys;
  readonly #deletions = new Map<string, Change>();
  readonly #release: (changes: readonly Change[]) => void;
  #timer: NodeJS.Timeout | undefined;

  /** @param release is given what nothing has followed for a second */
  constructor(keys: Keys, release: (changes: readonly Change[]) => void) {
    this.#keys = keys;
    this.#release = release;
  }

  /** Keys that are as good as gone. */
  get keys(): ReadonlySet<string> {
    return new Set(this.#deletions.keys());
  }

  /** @returns what holds now, in order; deletions from before that what has come since confirms are among it */
  take(changes: readonly Change[]): readonly Change[] {
    const now: Change[] = [];
    for (const change of changes) {
      const key = change.kind === "put" ? change.entry.key : change.key;
      if (!this.#carriesPackets(key)) now.push(change);
      else if (change.kind === "delete") this.#deletions.set(key, change);
      else now.push(...this.#takeAll(), change);
    }
    clearTimeout(this.#timer);
    this.#timer = this.#deletions.size === 0 ? undefined : setTimeout(() => this.#end(), quietMs).unref();
    return now;
  }

  /** A list says what there is. */
  forget(): void {
    this.#takeAll();
  }

  #end(): void {
    this.#release(this.#takeAll());
  }

  #takeAll(): readonly Change[] {
    clearTimeout(this.#timer);
    const all = [...this.#deletions.values()];
    this.#deletions.clear();
    return all;
  }

  #carriesPackets(key: string): boolean {
    const { cluster, networks, hosts, blocks, endpoints } = this.#keys;
    return key === cluster || [networks, hosts, blocks, endpoints].some((prefix) => key.startsWith(prefix));
  }
}
