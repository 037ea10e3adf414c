import type { Entry, Outcome, Step } from "./engine.ts";

/** The key that a step looks at or writes; `empty` looks at many. */
export function keyOf(step: Step): string | undefined {
  return step.kind === "empty" ? undefined : step.key;
}

/** The revision of a key that a commit has written. */
export function writtenAt({ revision, written }: Extract<Outcome, { committed: true }>, key: string): number {
  return written?.get(key) ?? revision;
}

/** Whether a step's guard holds, by what is there. `isEmpty` is asked for prefixes. */
export function holds(
  step: Step,
  found: ReadonlyMap<string, Entry>,
  isEmpty: (prefix: string) => boolean,
): boolean {
  switch (step.kind) {
    case "create":
    case "absent":
      return !found.has(step.key);
    case "replace":
    case "remove":
    case "unchanged":
      return found.get(step.key)?.revision === step.revision;
    case "empty":
      return isEmpty(step.prefix);
    case "put":
    case "clear":
      return true;
  }
}

/**
 * Whether what is there is what the steps would have left: the answer to "was my write done?" when its reply was lost.
 * Right only where no one else writes the same values: put a nonce in.
 * @returns the revision that they were written at, or undefined
 */
export function revisionIfDone(
  steps: readonly Step[],
  found: ReadonlyMap<string, Entry>,
): number | undefined {
  let revision: number | undefined;
  for (const step of steps) {
    if (step.kind === "create" || step.kind === "replace" || step.kind === "put") {
      const entry = found.get(step.key);
      if (entry?.value !== step.value) return undefined;
      if (step.kind === "replace" && entry.revision === step.revision) return undefined;
      // One transaction writes all its keys at one revision.
      if (revision !== undefined && entry.revision !== revision) return undefined;
      revision = entry.revision;
    } else if ((step.kind === "remove" || step.kind === "clear") && found.has(step.key)) {
      return undefined;
    }
  }
  return revision ?? (steps.some((step) => step.kind === "remove") ? 0 : undefined);
}
