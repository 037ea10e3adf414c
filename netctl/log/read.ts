import { type FileHandle, open } from "node:fs/promises";
import { errorCode } from "#machine/io-error.ts";
import { olderLogFile } from "#machine/log-file.ts";
import { rest } from "#netctl/rest.ts";
import { type LogLine, parseLine } from "./line.ts";

const pauseMs = 200;
const pieceBytes = 256 * 1024;

export interface ReadOptions {
  /** False: only what is written from now on. */
  readonly past: boolean;
  /** Goes on until then; undefined: ends with what there is. */
  readonly followUntilMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each look, first after the lines that there were. */
  readonly onPresent?: () => void;
}

/**
 * The lines of the log in the order in which they were written, and with `followUntilMs` those that are still to come.
 * The file may be missing, be replaced by another one or cut short meanwhile.
 */
export async function* readLog(path: string, options: ReadOptions): AsyncGenerator<LogLine, void> {
  const { past, followUntilMs, signal, onPresent } = options;
  const isOver = () => signal?.aborted === true || followUntilMs === undefined || Date.now() > followUntilMs;
  let file = await openIfThere(path);
  try {
    if (past) {
      const older = await openIfThere(olderLogFile(path));
      try {
        if (older) yield* new Lines(older.handle).more();
      } finally {
        await older?.handle.close();
      }
    }
    let lines = file && new Lines(file.handle, past ? 0 : file.size);
    for (;;) {
      // Before the look: what comes between the last look and the end is seen by one more.
      const isLast = isOver();
      if (lines) yield* lines.more();
      const present = await openIfThere(path);
      if (present?.ino === file?.ino) await present?.handle.close();
      else if (present) {
        // What was still written to the other one.
        if (lines) yield* lines.more();
        await file?.handle.close();
        file = present;
        lines = new Lines(present.handle);
        continue;
      }
      onPresent?.();
      if (isLast) return;
      const ms = Math.max(1, Math.min(pauseMs, (followUntilMs ?? 0) - Date.now()));
      await rest(ms, signal);
    }
  } finally {
    await file?.handle.close();
  }
}

async function openIfThere(path: string) {
  try {
    const handle = await open(path, "r");
    const { ino, size } = await handle.stat();
    return { handle, ino, size };
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** What has been appended to a file since the last look. */
class Lines {
  readonly #handle: FileHandle;
  readonly #piece = Buffer.allocUnsafe(pieceBytes);
  #offset: number;
  /** The beginning of a line whose end is not there yet. */
  #rest = Buffer.alloc(0);

  constructor(handle: FileHandle, offset = 0) {
    this.#handle = handle;
    this.#offset = offset;
  }

  async *more(): AsyncGenerator<LogLine, void> {
    if ((await this.#handle.stat()).size < this.#offset) {
      this.#offset = 0;
      this.#rest = Buffer.alloc(0);
    }
    for (;;) {
      const { bytesRead } = await this.#handle.read(this.#piece, 0, pieceBytes, this.#offset);
      if (bytesRead === 0) return;
      this.#offset += bytesRead;
      const bytes = Buffer.concat([this.#rest, this.#piece.subarray(0, bytesRead)]);
      const end = bytes.lastIndexOf(0x0a) + 1;
      this.#rest = bytes.subarray(end);
      for (const text of bytes.toString("utf8", 0, end).split("\n")) {
        const line = text === "" ? undefined : parseLine(text);
        if (line) yield line;
      }
    }
  }
}
