import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { ServiceLock } from "./service-lock.ts";

/** A netd cleans up before it serves: what a crash left of many attachments takes its time. */
const readyTimeoutMs = 60_000;
const trialTimeoutMs = 30_000;
const pauseMs = 20;
const maxWords = 2000;
/** Before each try; the installer may not have put everything in place at the first. */
const trialPausesMs: readonly number[] = [0, 5_000, 30_000];
const startPausesMs: readonly number[] = [0, 1_000, 5_000];

type Environment = Readonly<Record<string, string | undefined>>;

/** How the program that is installed now is started: as the launcher does (native/launcher.c, start_service). */
export interface ProgramStart {
  /** netd.cjs */
  readonly program: string;
  /** Node's own, such as `--optimize-for-size`. */
  readonly nodeArguments: readonly string[];
  readonly environment: Environment;
}

export interface Trial extends ProgramStart {
  /** Told of each try that came to nothing. */
  readonly onFailure: (reason: string) => void;
  /** Ends the tries, and what was started. */
  readonly signal: AbortSignal;
  /** Before each try. */
  readonly pausesMs?: readonly number[];
}

/**
 * True if the program can be started, of three tries. It is started while this netd has the lock: it loads, finds that
 * another netd serves, and ends, in whichever version.
 */
export async function canBeStarted(trial: Trial): Promise<boolean> {
  return (await severalTries({ pausesMs: trialPausesMs, ...trial }, () => tryToLoad(trial))) !== undefined;
}

/**
 * Starts the netd that takes this one's place, with the lock, and waits until it serves, which it is tried three times to
 * do. Nothing of this one may be serving any more.
 * @returns the new one's pid; undefined where it never came to serve
 */
export async function startSuccessor(trial: Trial, lock: ServiceLock): Promise<number | undefined> {
  return await severalTries({ pausesMs: startPausesMs, ...trial }, () => tryToServe(trial, lock));
}

/** @returns what the first try that succeeds has, by a number; those that fail have a reason */
async function severalTries(
  { onFailure, signal, pausesMs }: Trial & Required<Pick<Trial, "pausesMs">>,
  attempt: () => Promise<number | string>,
): Promise<number | undefined> {
  for (const pauseMs of pausesMs) {
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return undefined;
    const outcome = await attempt();
    if (typeof outcome === "number") return outcome;
    if (!signal.aborted) onFailure(outcome);
  }
  return undefined;
}

async function tryToLoad({ signal, ...start }: Trial): Promise<number | string> {
  const { NETCTL_NETD_LOCK_FD: _, ...environment } = start.environment;
  const child = await startNode({ ...start, environment }, "pipe");
  if (child instanceof Error) return child.message;
  let words = "";
  child.stderr?.on("data", (piece: Buffer) => (words = (words + piece.toString()).slice(-maxWords)));
  const end = () => void child.kill("SIGKILL");
  const late = setTimeout(end, trialTimeoutMs);
  signal.addEventListener("abort", end);
  const how = await new Promise<string | undefined>((resolve) => {
    child.once("close", (code, killedBy) => resolve(code === 0 ? undefined : describeEnd(code, killedBy)));
  });
  clearTimeout(late);
  signal.removeEventListener("abort", end);
  return how === undefined ? (child.pid ?? 0) : withReason(how, reasonIn(words));
}

async function tryToServe({ signal, ...start }: Trial, lock: ServiceLock): Promise<number | string> {
  lock.markStarting();
  const environment = { ...start.environment, NETCTL_NETD_LOCK_FD: "3" };
  const child = await startNode({ ...start, environment }, "ignore", lock.fd);
  if (child instanceof Error) return child.message;
  const { pid = 0 } = child;
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const deadlineMs = performance.now() + readyTimeoutMs;
  for (;;) {
    const said = lock.read();
    if (said === `${pid}\n`) {
      child.unref();
      return pid;
    }
    if (child.exitCode !== null || child.signalCode !== null) {
      return withReason(describeEnd(child.exitCode, child.signalCode), said.split("\n")[1] ?? "");
    }
    if (signal.aborted || performance.now() > deadlineMs) {
      child.kill("SIGKILL");
      await exited;
      return `it did not serve within ${readyTimeoutMs / 1000} s`;
    }
    await sleep(pauseMs);
  }
}

/** Node may have been replaced as well, under another path. */
async function startNode(
  { program, nodeArguments, environment }: ProgramStart,
  stderr: "pipe" | "ignore",
  lockFd?: number,
): Promise<ChildProcess | Error> {
  const { NETCTL_NODE: named } = environment;
  let failure = new Error("no Node to start it with");
  for (const node of [...(named ? [named] : []), process.execPath, "node"]) {
    const child = spawn(node, [...nodeArguments, program], {
      argv0: "netd",
      cwd: "/",
      env: environment,
      detached: true,
      stdio: ["ignore", "ignore", stderr, ...(lockFd === undefined ? [] : [lockFd])],
    });
    const error = await new Promise<Error | undefined>((resolve) => {
      child.once("spawn", () => resolve(undefined));
      child.once("error", resolve);
    });
    if (error === undefined) return child;
    failure = error;
  }
  return failure;
}

function withReason(how: string, reason: string): string {
  return reason === "" ? how : `${how}: ${reason}`;
}

function describeEnd(code: number | null, signal: NodeJS.Signals | null): string {
  return signal === null ? `it ended with ${code}` : `it was ended by ${signal}`;
}

/** The line that says what is wrong, of what Node prints around it. */
function reasonIn(words: string): string {
  const lines = words.split("\n").map((line) => line.trim());
  return (
    lines.findLast((line) => /^(netd: |\w*Error\b)/.test(line)) ?? lines.findLast((line) => line !== "") ?? ""
  );
}
