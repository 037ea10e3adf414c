import picocolors from "picocolors";
import type { Environment } from "#cni/plugin.ts";

export type Colors = ReturnType<typeof picocolors.createColors>;

/** The operator's side of a command: a terminal, a pipe, or a test's buffers. */
export interface Io {
  stdout(text: string): void;
  stderr(text: string): void;
  /** For what is no text, such as a captured packet. */
  stdoutBytes(bytes: Uint8Array): void;
  /** Shows a text in the place of the one before; below it where stdout is no terminal. */
  redraw(text: string): void;
  /**
   * Says on a terminal what is under way, once that takes more than a second; undefined: nothing any more. Where stderr is
   * no terminal nothing is said.
   */
  progress(text: string | undefined): void;
  /** Asks on stderr and reads one line of stdin; empty where there is none. */
  ask(question: string): Promise<string>;
  /** Formats for the terminal; leaves text as it is where stdout is none. */
  readonly colors: Colors;
  /** Absolute; what relative paths of the command line are relative to. */
  readonly workingDirectory: string;
  /**
   * Runs a program on the same stdin, stdout and stderr, hands signals on, and answers with its exit code, or
   * 128 + N where signal N ended it.
   */
  runAttached(file: string, args: readonly string[], environment: Environment): Promise<number>;
}

/** One JSON value, indented for people, with the final newline. */
export function writeJson(io: Io, value: unknown): void {
  io.stdout(`${JSON.stringify(value, null, 2)}\n`);
}

/** Colour only on a terminal, never with NO_COLOR (https://no-color.org), always with FORCE_COLOR. */
export function chooseColors(environment: Environment, stdoutIsTerminal: boolean): Colors {
  if (environment["NO_COLOR"]) return picocolors.createColors(false);
  if (environment["FORCE_COLOR"]) return picocolors.createColors(true);
  return picocolors.createColors(stdoutIsTerminal && environment["TERM"] !== "dumb");
}
