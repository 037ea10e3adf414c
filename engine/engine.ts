/**
 * What the hosts of a cluster agree on: a small ordered store of keys and values. Every safety rule of the overlay is
 * "this key is not there yet" or "this key is as I last saw it", so that a store with nothing but a compare-and-swap of
 * one object can serve it as well as one with transactions.
 */

/** One key as a store has it. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  /** The store's revision when this value was written; grows over the whole store. A token to compare with. */
  readonly revision: number;
}

/** A guard, and what is done when all guards hold. */
export type Step =
  /** The key must not be there. @see https://etcd.io/docs/v3.4/learning/api/ `create_revision == 0` */
  | { readonly kind: "create"; readonly key: string; readonly value: string; readonly lease?: Lease }
  /** The key must still be at this revision. */
  | {
      readonly kind: "replace";
      readonly key: string;
      readonly revision: number;
      readonly value: string;
      readonly lease?: Lease;
    }
  | { readonly kind: "remove"; readonly key: string; readonly revision: number }
  /** Written whatever is there: for what only this host ever writes, beside a guard that says it still may. */
  | { readonly kind: "put"; readonly key: string; readonly value: string }
  | { readonly kind: "clear"; readonly key: string }
  /** Guards alone: nothing is written. */
  | { readonly kind: "unchanged"; readonly key: string; readonly revision: number }
  | { readonly kind: "absent"; readonly key: string }
  | { readonly kind: "empty"; readonly prefix: string };

export type Outcome =
  | {
      readonly committed: true;
      readonly revision: number;
      /** Of each key that was written, where a store gives each a revision of its own: `writtenAt`. */
      readonly written?: ReadonlyMap<string, number>;
    }
  /** Nothing was written. `found` has every key that a step names, and that is there; what `empty` found is not in it. */
  | { readonly committed: false; readonly revision: number; readonly found: ReadonlyMap<string, Entry> };

/** Everything below a prefix at one revision. */
export interface Snapshot {
  readonly revision: number;
  readonly entries: readonly Entry[];
}

export type Change =
  | { readonly kind: "put"; readonly entry: Entry }
  | { readonly kind: "delete"; readonly key: string; readonly revision: number };

/** All changes of one or several revisions, in order; after them a reader has seen everything up to `revision`. */
export interface Changes {
  readonly revision: number;
  readonly changes: readonly Change[];
}

/** Keys that name it vanish when it is not kept alive. Nothing that is forwarded ever depends on one. */
export interface Lease {
  readonly id: string;
  readonly ttlSeconds: number;
}

export interface EngineStatus {
  /** What has to be said to an operator; empty when all is well. */
  readonly problems: readonly string[];
  /** Reads work and writes don't: no space, no leader, a role that may not write. */
  readonly isReadOnly: boolean;
  readonly revision: number;
}

export interface Engine {
  /**
   * Does all steps or none, where the store can; a store that can't does them in order, and stops at the first refusal.
   * So the order must be such that what is left behind by a stop is harmless. An outcome that was lost on the way (a
   * reply that never came) is read back until it is known.
   * @throws {EngineError} if nothing can be said, or nothing was done
   */
  commit(steps: readonly Step[]): Promise<Outcome>;
  /** @throws {EngineError} */
  read(key: string): Promise<Entry | undefined>;
  /** All keys that begin with `prefix`, in order, as they were at one revision. @throws {EngineError} */
  list(prefix: string): Promise<Snapshot>;
  /**
   * The same in parts of some hundred keys, all of one revision, in any order: for who does not want all at once.
   * @throws {CompactedError} when the store has forgotten that revision meanwhile: begin again
   * @throws {EngineError}
   */
  listInParts(prefix: string): AsyncIterable<Snapshot>;
  /**
   * Changes below `prefix` from revision `from` on, without a gap, until `signal` is aborted. Goes on by itself after a
   * lost connection, from the last revision that was delivered.
   * @throws {CompactedError} when the store has forgotten what lies between: list again, and compare
   * @throws {RewoundError} when the store has not come so far yet, and so is not the one that was listed
   */
  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<Changes>;
  /** @throws {EngineError} */
  grantLease(ttlSeconds: number): Promise<Lease>;
  /** Whether it was still there. @throws {EngineError} */
  keepAlive(lease: Lease): Promise<boolean>;
  /** Its keys vanish now. @throws {EngineError} */
  revokeLease(lease: Lease): Promise<void>;
  /** Drops what is connected: this host's address has changed, and nobody would say so. Watches go on by themselves. */
  reconnect(): void;
  /** Never throws: what is wrong is in it. */
  status(): Promise<EngineStatus>;
  close(): Promise<void>;
}
