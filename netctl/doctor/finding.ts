import type { DoctorContext } from "./context.ts";

/**
 * "error": something that the networks promise does not work. "warning": it may not, or will not soon. "note": worth
 * knowing, and right as it may be.
 */
export type Severity = "error" | "warning" | "note";

/** Something that the doctor has found, as `netctl doctor --json` prints it: docs/doctor.md. */
export interface Finding {
  /** Of the kind of finding; stays the same from version to version. */
  readonly id: string;
  readonly severity: Severity;
  /** Network, attachment, file or sysctl that it is about; "" for the whole host. */
  readonly subject: string;
  /** What was seen, with names and values. */
  readonly evidence: string;
  /** What helps: a command wherever there is one. */
  readonly remedy: string;
}

/** One kind of look at the host. Each has a file of its own; `checks.ts` lists them. */
export interface Check {
  /** The beginning of its findings' ids. */
  readonly id: string;
  /** What it looks at, for `netctl doctor --list`. */
  readonly summary: string;
  /** Changes nothing. What it can't look at it throws. */
  run(context: DoctorContext): readonly Finding[] | Promise<readonly Finding[]>;
}
