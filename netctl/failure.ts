/**
 * Exit codes of netctl, for scripts: docs/netctl.md has the table. `sandbox exec` exits with its command's code, and
 * what stands for `docker run` with 125 where nothing came to run, whatever the reason.
 */
export const ExitCode = { Ok: 0, Failure: 1, Usage: 2, NothingRan: 125 } as const;
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

/** The operator asked to stop. The exit code is that of a program which the signal ended. */
export class Interruption extends Error {
  override readonly name = "Interruption";
  readonly exitCode: number;

  constructor(signal: "SIGINT" | "SIGTERM") {
    super(`stopped by ${signal}`);
    this.exitCode = 128 + (signal === "SIGINT" ? 2 : 15);
  }
}

/**
 * What to tell the operator: the message, with code and details of a CNI error, and what was gathered in it where the
 * message does not say it. Causes are left out, since a message of ours says what its cause said.
 */
export function describeError(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const details = "details" in thrown && typeof thrown.details === "string" ? thrown.details : "";
  const own = details === "" ? thrown.message : `${thrown.message} (${details})`;
  const gathered = thrown instanceof AggregateError ? (thrown.errors as unknown[]).map(describeError) : [];
  return [own, ...new Set(gathered.filter((text) => !own.includes(text)))].join("; ");
}
