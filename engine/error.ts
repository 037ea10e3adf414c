/** Why an engine did not do what it was asked. */
export type EngineFault =
  /** No endpoint answers, or none has a leader. Try again later; what is forwarded stays. */
  | "unavailable"
  /** A write may have been done or not, and reading back did not tell. */
  | "unknown"
  /** Writes are refused until an operator makes room (etcd's NOSPACE alarm). */
  | "no-space"
  /** User, password, certificate or role. */
  | "denied"
  /** A request that no retry mends: too large, malformed. */
  | "invalid";

export class EngineError extends Error {
  override readonly name: string = "EngineError";
  readonly fault: EngineFault;

  constructor(fault: EngineFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.fault = fault;
  }
}

/** The store has dropped the history that a watch asked for. */
export class CompactedError extends Error {
  override readonly name: string = "CompactedError";
  /** The oldest revision that can still be watched from. */
  readonly oldest: number;

  constructor(oldest: number) {
    super(`Cannot watch from so far back: history begins at revision ${oldest}`);
    this.oldest = oldest;
  }
}

/** The store is at an earlier revision than one that it has answered with: it was restored from a copy, or emptied. */
export class RewoundError extends Error {
  override readonly name: string = "RewoundError";

  constructor(revision: number, seen: number) {
    super(`The store is at revision ${revision}, and was at ${seen}`);
  }
}
