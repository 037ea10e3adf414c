import { spawn } from "node:child_process";

export interface CommandOptions {
  readonly stdin?: string;
  /** The whole environment of the command; the runner's own if absent. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The command is killed after this time; 30 s if absent. */
  readonly timeoutMs?: number;
  /** Called once the process exists, for a case that wants to kill it. */
  readonly onStart?: (processId: number) => void;
}

export interface Completed {
  /** 128 plus the signal's number does not occur here: a killed command has `signal` and exit code -1. */
  readonly exitCode: number;
  readonly signal: string | undefined;
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
}

/**
 * Runs a command to its end, that is until it has exited and closed stdout and stderr, as a runtime waits.
 * @throws {Error} if it cannot be started at all
 */
export function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Completed> {
  return new Promise((resolve, reject) => {
    const startedMs = performance.now();
    const child = spawn(file, [...args], {
      ...(options.environment === undefined ? {} : { env: { ...options.environment } }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      stdio: ["pipe", "pipe", "pipe"],
    });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
      // A daemon that inherited the pipes would keep them open for ever.
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, 500).unref();
    }, options.timeoutMs ?? 30_000);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(new Error(`Cannot run ${file}: ${error.message}`));
    });
    child.on("close", (exitCode, signal) => {
      clearTimeout(timer);
      resolve({
        exitCode: exitCode ?? -1,
        signal: signal ?? undefined,
        timedOut,
        stdout: Buffer.concat(stdout).toString("utf8"),
        stderr: Buffer.concat(stderr).toString("utf8"),
        durationMs: performance.now() - startedMs,
      });
    });
    // The command may end without reading its input: EPIPE is no fault then.
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.stdin ?? "");
    if (child.pid !== undefined) options.onStart?.(child.pid);
  });
}

/**
 * As runCommand(), for the kit's own tools: a failure is a fault of the kit or the machine, not of a plugin.
 * @throws {Error} unless it exits with 0
 */
export async function runTool(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const completed = await runCommand(file, args, options);
  if (completed.exitCode !== 0) {
    const reason = completed.stderr.trim() || `exit code ${completed.exitCode}`;
    throw new Error(`Cannot run "${file} ${args.join(" ")}": ${reason}`);
  }
  return completed.stdout;
}
