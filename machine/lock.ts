import { closeSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LockOperation, native } from "#native/addon.ts";
import { errorCode, IoError } from "./io-error.ts";
import { makeDirectory } from "./make-directory.ts";

export interface LockOptions {
  /** How long to wait for the holder. */
  readonly timeoutMs: number;
  /** Several may hold it at once if all of them asked for it shared. */
  readonly shared?: boolean;
  readonly signal?: AbortSignal;
}

/** Somebody else held the lock all the time. */
export class LockTimeoutError extends Error {
  readonly path: string;

  constructor(path: string, timeoutMs: number) {
    super(`Cannot lock ${JSON.stringify(path)}: held by somebody else for more than ${timeoutMs} ms`);
    this.name = "LockTimeoutError";
    this.path = path;
  }
}

/** Longest pause between two tries. A holder usually needs well under a millisecond. */
const maxPauseMs = 8;

/**
 * Runs `action` while holding flock(2) on `path`, and returns what it returns. The file is made if missing (0600, its
 * directory 0700) and stays. The kernel drops the lock when the process dies. Two calls in one process exclude each
 * other as two processes do. Never blocks the event loop: it tries, and tries again after a pause.
 * @throws {LockTimeoutError} after `timeoutMs`
 * @throws {IoError} where the file can't be opened
 */
export async function withFileLock<Value>(
  path: string,
  action: () => Value | Promise<Value>,
  options: LockOptions,
): Promise<Value> {
  const fd = await acquire(path, options);
  try {
    return await action();
  } finally {
    // Also releases it: nobody else has this open file description, as O_CLOEXEC is always set by Node.
    closeSync(fd);
  }
}

/**
 * Takes flock(2) on `path` if nobody holds it, without waiting. The file is made if missing, as by `withFileLock()`.
 * @returns what gives it back, or undefined
 * @throws {IoError} where the file can't be opened
 */
export function tryFileLock(
  path: string,
  { shared = false }: Pick<LockOptions, "shared"> = {},
): (() => void) | undefined {
  const operation = (shared ? LockOperation.Shared : LockOperation.Exclusive) | LockOperation.NonBlocking;
  const fd = tryLock(path, operation);
  return fd < 0 ? undefined : () => closeSync(fd);
}

async function acquire(path: string, { timeoutMs, shared = false, signal }: LockOptions): Promise<number> {
  const operation = (shared ? LockOperation.Shared : LockOperation.Exclusive) | LockOperation.NonBlocking;
  let deadlineMs: number | undefined;
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
    signal?.throwIfAborted();
    const fd = tryLock(path, operation);
    if (fd >= 0) return fd;
    // Not before the first try: in a process that never waits, the clock itself would take a millisecond to load.
    deadlineMs ??= performance.now() + timeoutMs;
    if (performance.now() >= deadlineMs) throw new LockTimeoutError(path, timeoutMs);
    // At random, so that several who wait do not come back together for ever.
    await sleep(pauseMs * (0.5 + Math.random()), undefined, signal ? { signal } : {});
  }
}

/** @returns the descriptor that holds the lock, or -1 */
function tryLock(path: string, operation: number): number {
  try {
    try {
      return native().lockFile(path, operation);
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      makeDirectory(dirname(path), 0o700);
      return native().lockFile(path, operation);
    }
  } catch (cause) {
    throw new IoError("lock", path, cause);
  }
}
