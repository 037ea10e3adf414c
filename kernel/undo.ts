/**
 * Takes one step back. `failures` are those of the steps that were taken back before it: a step that only makes
 * sense when everything else is gone (such as forgetting what was made) looks there first.
 */
export type Reversal = (failures: readonly Error[]) => void | Promise<void>;

/** Thrown in place of `cause` where something could not be taken back; the cause still is what went wrong. */
export class IncompleteUndoError extends AggregateError {
  constructor(cause: unknown, failures: readonly Error[]) {
    super(failures, [messageOf(cause), ...failures.map(messageOf)].join("; "), { cause });
    this.name = "IncompleteUndoError";
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A stack of reversals for work that is done whole or not at all. */
export class Undo {
  readonly #steps: { readonly what: string; readonly reverse: Reversal }[] = [];

  /**
   * Remembers how to take back what has just been done, or is about to be: a reversal finds nothing then.
   * @param what as it reads after "Cannot take back": `link "veth3f2a9c01"`
   */
  push(what: string, reverse: Reversal): void {
    this.#steps.push({ what, reverse });
  }

  /**
   * Runs `body`; where it throws, takes back what it pushed, newest first, every step even if another one fails.
   * @throws what `body` threw, or {IncompleteUndoError} with that as cause
   */
  static async run<Value>(body: (undo: Undo) => Promise<Value>): Promise<Value> {
    const undo = new Undo();
    try {
      return await body(undo);
    } catch (cause) {
      const failures: Error[] = [];
      for (const { what, reverse } of undo.#steps.reverse()) {
        try {
          await reverse(failures);
        } catch (error) {
          failures.push(new Error(`Cannot take back ${what}: ${messageOf(error)}`, { cause: error }));
        }
      }
      throw failures.length === 0 ? cause : new IncompleteUndoError(cause, failures);
    }
  }
}
