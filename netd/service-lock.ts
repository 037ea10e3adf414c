import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode, IoError } from "#machine/io-error.ts";
import { LockOperation, native } from "#native/addon.ts";

const pauseMs = 100;
/** Of a reason why a netd was not started. */
const maxWordsBytes = 4096;
const exclusively = LockOperation.Exclusive | LockOperation.NonBlocking;

/**
 * The lock (flock) that makes this the only netd of its network namespace for as long as the process lives. The
 * launcher that starts a netd takes it first, hands it over as an open descriptor, and leaves "starting" in the file:
 * as long as that stands there, no launcher starts another within some seconds.
 */
export class ServiceLock {
  /** For the one that takes this one's place: the lock is held as long as either of them has it open. */
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * @param inherited descriptor that should hold it already
   * @returns undefined where another netd has it
   * @throws {IoError}
   */
  static take(path: string, inherited?: number): ServiceLock | undefined {
    const fd = inherited !== undefined && isFile(inherited, path) ? inherited : open(path);
    if (native().flock(fd, exclusively)) return new ServiceLock(fd);
    closeSync(fd);
    return undefined;
  }

  /** Waits for the netd that has it to end. */
  static async wait(path: string): Promise<ServiceLock> {
    for (;;) {
      const lock = ServiceLock.take(path);
      if (lock) return lock;
      await sleep(pauseMs);
    }
  }

  /** Says that a netd is about to be started. */
  markStarting(): void {
    this.#write("starting\n");
  }

  /** Says that netd listens, and who it is. */
  markReady(pid: number): void {
    this.#write(`${pid}\n`);
  }

  /** Says why it does not: a netd that was started on demand has nobody else to tell it to. */
  markFailed(reason: string): void {
    this.#write(`starting\n${reason}\n`);
  }

  /** What was said last, by this netd or the one that was started with its lock. */
  read(): string {
    const bytes = Buffer.alloc(maxWordsBytes);
    return bytes.toString("utf8", 0, readSync(this.fd, bytes, 0, bytes.length, 0));
  }

  #write(text: string): void {
    ftruncateSync(this.fd, 0);
    writeSync(this.fd, text, 0);
  }
}

function isFile(fd: number, path: string): boolean {
  try {
    const [inherited, file] = [fstatSync(fd), statSync(path)];
    return inherited.dev === file.dev && inherited.ino === file.ino;
  } catch (error) {
    if (["EBADF", "ENOENT"].includes(errorCode(error) ?? "")) return false;
    throw error;
  }
}

function open(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (cause) {
    throw new IoError("open lock file", path, cause);
  }
}
