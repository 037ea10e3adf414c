import type { Change } from "#engine/engine.ts";
import type { Keys } from "./keys.ts";

/** How long nothing more may vanish before what has vanished is believed. */
const quietMs = 1000;
/** How long it is held at most where something vanishes all the time: a host that is there has put its own back by then. */
const longestMs = 15_000;

interface Held {
  readonly change: Change;
  readonly atMs: number;
}

/**
 * What a watch tells of as gone, until it is sure that not everything goes. A list can be judged as a whole; where somebody
 * deletes all of a cluster's keys, or Kubernetes takes away the kind that they are of, a watch tells of them one by one,
 * in no particular order. So what carries packets is let go of a moment later, whatever else is written meanwhile: hosts
 * write again what is deleted of theirs, while the rest is still going.
 */
export class HeldDeletions {
  readonly #keys: Keys;
  readonly #deletions = new Map<string, Held>();
  readonly #release: (changes: readonly Change[]) => void;
  #lastMs = 0;
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

  /** @returns what holds now, in order; deletions from before that what has come since makes good are among it */
  take(changes: readonly Change[]): readonly Change[] {
    const now: Change[] = [];
    for (const change of changes) {
      const key = change.kind === "put" ? change.entry.key : change.key;
      if (!this.#carriesPackets(key)) now.push(change);
      else if (change.kind === "delete") this.#hold(key, change);
      else now.push(...this.#madeGoodBy(key), change);
    }
    this.#arm();
    return now;
  }

  /** A list says what there is. */
  forget(): void {
    this.#deletions.clear();
    this.#arm();
  }

  #hold(key: string, change: Change): void {
    this.#lastMs = performance.now();
    this.#deletions.set(key, { change, atMs: this.#lastMs });
  }

  /** A container that has moved to another host has another key there, and the same addresses. */
  #madeGoodBy(key: string): readonly Change[] {
    const { endpoints } = this.#keys;
    return this.#takeOut((held) => held === key || (key.startsWith(endpoints) && held.startsWith(endpoints)));
  }

  #takeOut(isMeant: (key: string, held: Held) => boolean): readonly Change[] {
    const out = [...this.#deletions].filter(([key, held]) => isMeant(key, held));
    for (const [key] of out) this.#deletions.delete(key);
    return out.map(([, { change }]) => change);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const [oldest] = this.#deletions.values();
    if (!oldest) return;
    const atMs = Math.min(this.#lastMs + quietMs, oldest.atMs + longestMs);
    this.#timer = setTimeout(() => this.#end(), Math.max(0, atMs - performance.now())).unref();
  }

  #end(): void {
    const nowMs = performance.now();
    const isQuiet = nowMs - this.#lastMs >= quietMs;
    const changes = this.#takeOut((_key, { atMs }) => isQuiet || nowMs - atMs >= longestMs);
    if (changes.length > 0) this.#release(changes);
    this.#arm();
  }

  #carriesPackets(key: string): boolean {
    const { cluster, networks, hosts, blocks, endpoints } = this.#keys;
    return key === cluster || [networks, hosts, blocks, endpoints].some((prefix) => key.startsWith(prefix));
  }
}
