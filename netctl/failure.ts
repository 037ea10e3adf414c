/** Exit codes of netctl, for scripts: docs/netctl.md has the table. `sandbox exec` exits with its command's code. */
export const ExitCode = { Ok: 0, Failure: 1, Usage: 2 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The command line was understood, and what it asks for can't be had on this host now. Exit code 1. */
export class Failure extends Error {
  override readonly name: string = "Failure";
  readonly exitCode: ExitCode = ExitCode.Failure;
}

/** The command line is wrong whatever the state of the host. Exit code 2. */
export class UsageFailure extends Failure {
  override readonly name = "UsageFailure";
  override readonly exitCode = ExitCode.Usage;
}

/** What to tell the operator: the message, and those of the errors gathered or wrapped in it that add something. */
export function describeError(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const details = "details" in thrown && typeof thrown.details === "string" ? thrown.details : "";
  const own = details === "" ? thrown.message : `${thrown.message} (${details})`;
  const inner = thrown instanceof AggregateError ? (thrown.errors as unknown[]) : [];
  const more = thrown.cause === undefined ? inner : [...inner, thrown.cause];
  const added = more.map(describeError).filter((text) => !own.includes(text));
  return [own, ...new Set(added)].join("; ");
}
