import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { splitPath } from "./environment.ts";
import { CniError, ErrorCode } from "./error.ts";
import { messageOf } from "./error-causes.ts";
import { findPlugin } from "./find-plugin.ts";
import { field, isJsonObject, type JsonObject } from "./json.ts";
import type { Call, Environment, Outcome } from "./plugin.ts";
import type { PluginRunner } from "./plugin-runner.ts";

export interface ExecOptions {
  /** A plugin that runs longer is killed. */
  readonly deadlineMs?: number;
  /** More on stdout than this is a fault; stderr is cut there. */
  readonly maxOutputBytes?: number;
  /** Gets what plugins write on stderr while they run; it is in the outcome as well. */
  readonly onStderr?: (text: string) => void;
}

/** Above any runtime's own patience: kubelet gives a pod's network 4 minutes. */
const defaultDeadlineMs = 240_000;
const defaultMaxOutputBytes = 8 * 1024 * 1024;

/** An executable that is just being installed is busy; libcni waits five times a second. */
const busyRetries = 25;
const busyRetryMs = 200;

/** For output that a grandchild keeps open after the plugin has ended. */
const drainMs = 500;

/** Runs plugins as processes found in CNI_PATH, each with the whole stdin and environment of its call. */
export class ExecRunner implements PluginRunner {
  readonly #options: ExecOptions;

  constructor(options: ExecOptions = {}) {
    this.#options = options;
  }

  /**
   * @throws {CniError} 4 or 7 if there is no such executable; 5 if it can't be executed; 11 if it ran past the
   *   deadline or the call was aborted, after it has been killed; 999 if it wrote too much
   */
  async run(type: string, call: Call): Promise<Outcome> {
    return await this.runFile(findPlugin(type, splitPath(call.environment["CNI_PATH"] ?? "")), call);
  }

  /** Like `run`, for a file that has been found. */
  async runFile(file: string, call: Call): Promise<Outcome> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await runProcess(file, call, this.#options);
      } catch (error) {
        if (!isBusy(error) || attempt === busyRetries) throw error;
        await delay(busyRetryMs);
      }
    }
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof CniError && (error.cause as { code?: unknown } | undefined)?.code === "ETXTBSY";
}

async function runProcess(file: string, call: Call, options: ExecOptions): Promise<Outcome> {
  const { deadlineMs = defaultDeadlineMs, maxOutputBytes = defaultMaxOutputBytes } = options;
  // Loading it takes 1.7 ms, which a process that only runs plugins of this suite never needs to spend.
  const { spawn } = await import("node:child_process");
  return await new Promise((resolve, reject) => {
    if (call.signal?.aborted) {
      reject(stopped(file, "was cancelled before it began"));
      return;
    }
    const unexecutable = (cause: unknown) =>
      new CniError(ErrorCode.IoFailure, `Cannot execute ${file}: ${messageOf(cause)}`, { cause });
    let child: ChildProcessWithoutNullStreams;
    try {
      child = spawn(file, [], { env: present(call.environment), stdio: ["pipe", "pipe", "pipe"] });
    } catch (cause) {
      // Node throws some errors of execve, ETXTBSY among them, and emits others.
      reject(unexecutable(cause));
      return;
    }
    const stdout = new BoundedText(maxOutputBytes);
    const stderr = new BoundedText(maxOutputBytes);
    let failure: CniError | undefined;

    const stop = (error: CniError) => {
      failure ??= error;
      child.kill("SIGKILL");
    };
    const onAbort = () => stop(stopped(file, "was cancelled"));
    const deadline = setTimeout(() => stop(stopped(file, `ran longer than ${deadlineMs} ms`)), deadlineMs);
    call.signal?.addEventListener("abort", onAbort, { once: true });
    const settle = (finish: () => void) => {
      clearTimeout(deadline);
      call.signal?.removeEventListener("abort", onAbort);
      finish();
    };

    child.stdout.on("data", (chunk: Buffer) => {
      if (!stdout.append(chunk)) {
        stop(new CniError(ErrorCode.Internal, `${file} wrote more than ${maxOutputBytes} bytes on stdout`));
      }
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr.append(chunk);
      options.onStderr?.(chunk.toString());
    });
    // A plugin may answer without reading all of stdin, VERSION for one: EPIPE is no fault.
    child.stdin.on("error", () => {});
    child.stdin.end(call.stdin);

    child.on("error", (cause) => {
      settle(() => reject(unexecutable(cause)));
    });
    child.on("exit", () => {
      const drain = setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, drainMs);
      child.on("close", () => clearTimeout(drain));
    });
    child.on("close", (code, signal) => {
      settle(() => {
        if (failure) {
          reject(failure);
          return;
        }
        const ending = signal ? `${file} was killed by ${signal}\n` : "";
        resolve({ exitCode: code ?? 1, stdout: stdout.text(), stderr: stderr.text() + ending });
      });
    });
  });
}

function stopped(file: string, why: string): CniError {
  return new CniError(ErrorCode.TryAgainLater, `${file} ${why}`);
}

function present(environment: Environment): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined) result[name] = value;
  }
  return result;
}

class BoundedText {
  readonly #maxBytes: number;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** False once there is more than fits; that is dropped. */
  append(chunk: Buffer): boolean {
    const room = this.#maxBytes - this.#bytes;
    if (room > 0) this.#chunks.push(chunk.subarray(0, room));
    this.#bytes += chunk.length;
    return this.#bytes <= this.#maxBytes;
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString();
  }
}

/**
 * What a plugin's outcome means to its caller, as libcni takes it: an error object on stdout keeps its code; a
 * failure without one is reported with what the plugin wrote on stderr.
 * @param type of the plugin, for the message
 * @returns the JSON on stdout, or undefined if there is none
 * @throws {CniError} the plugin's own error, or 999 for a failure that says nothing, or 6 for output that is no JSON
 */
export function interpretOutcome(outcome: Outcome, type: string): JsonObject | undefined {
  const json = parseOutput(outcome.stdout);
  if (outcome.exitCode === 0) {
    if (json !== "unreadable") return json;
    throw new CniError(ErrorCode.DecodingFailure, `plugin ${type} printed no JSON object on stdout`, {
      details: outcome.stdout.slice(0, maxQuoted),
    });
  }
  const words = outcome.stderr.trim().slice(-maxQuoted);
  if (json === undefined) {
    throw new CniError(
      ErrorCode.Internal,
      `plugin ${type} failed with no error message${words ? `: ${words}` : ""}`,
      { details: `exit code ${outcome.exitCode}` },
    );
  }
  if (json === "unreadable") {
    throw new CniError(
      ErrorCode.Internal,
      `plugin ${type} failed but its diagnostic message is no JSON: ${outcome.stdout.slice(0, maxQuoted)}`,
      { details: words },
    );
  }
  const code = field(json, "code");
  const msg = field(json, "msg");
  const details = field(json, "details");
  throw new CniError(
    typeof code === "number" ? code : ErrorCode.Internal,
    typeof msg === "string" && msg !== "" ? msg : `plugin ${type} failed with code ${JSON.stringify(code)}`,
    { details: typeof details === "string" ? details : "" },
  );
}

const maxQuoted = 2000;

function parseOutput(stdout: string): JsonObject | undefined | "unreadable" {
  if (stdout.trim() === "") return undefined;
  try {
    const json: unknown = JSON.parse(stdout);
    return isJsonObject(json) ? json : "unreadable";
  } catch {
    return "unreadable";
  }
}
