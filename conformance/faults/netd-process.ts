import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect } from "#conformance/failure.ts";

const startTimeoutMs = 20_000;

/** A netd of the harness's own, in the network namespace of one world. */
export class NetdProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<string>;
  #log = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once("exit", (exitCode, signal) => resolve(signal ?? `exit code ${String(exitCode)}`));
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#log += chunk.toString();
    });
  }

  /** Starts it. Settles when the process exists, which is long before it serves. */
  static spawn(
    netns: string,
    program: string,
    options: { readonly environment: Readonly<Record<string, string>>; readonly openFiles?: number },
  ): NetdProcess {
    const limited = options.openFiles === undefined ? [] : ["prlimit", `--nofile=${options.openFiles}`];
    const command = [...limited, process.execPath, program];
    return new NetdProcess(
      spawn("/usr/bin/nsenter", [`--net=${netns}`, ...command], {
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...options.environment },
      }),
    );
  }

  get processId(): number {
    return this.#child.pid ?? 0;
  }

  get log(): string {
    return this.#log;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Waits until it serves. @throws {Failure} where it ends before, or takes too long */
  async ready(): Promise<void> {
    const until = Date.now() + startTimeoutMs;
    while (!this.#log.includes('"msg":"ready"')) {
      expect(this.isRunning, `netd did not start: ${this.#log.trim().slice(-300)}`);
      expect(Date.now() < until, `netd did not start within ${startTimeoutMs} ms: ${this.#log.slice(-300)}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  /** How it ended: "SIGKILL", or "exit code 0". @throws {Failure} where it goes on for `timeoutMs` */
  async ended(timeoutMs = 20_000): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), timeoutMs);
    });
    const how = await Promise.race([this.#ended, late]);
    clearTimeout(timer);
    expect(how !== undefined, "netd did not end");
    return how;
  }

  signal(name: NodeJS.Signals): void {
    if (this.isRunning) this.#child.kill(name);
  }

  /** Waits until the kernel has stopped it. */
  async stopped(timeoutMs = 20_000): Promise<void> {
    const until = Date.now() + timeoutMs;
    while (!isStopped(this.processId)) {
      expect(this.isRunning, `netd ended where it should have stopped: ${this.#log.trim().slice(-300)}`);
      expect(Date.now() < until, "netd did not reach the point at which it stops");
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended();
  }
}

/** True if the process is stopped by a signal: state T in /proc/PID/stat (proc(5)). */
export function isStopped(processId: number): boolean {
  try {
    const stat = readFileSync(`/proc/${processId}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3) === "T";
  } catch {
    return false;
  }
}
