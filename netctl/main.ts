import { spawn } from "node:child_process";
import { constants } from "node:os";
import { createInterface } from "node:readline";
import logUpdate from "log-update";
import { messageOf } from "#cni/error-causes.ts";
import type { Environment } from "#cni/plugin.ts";
import { Interruption } from "./failure.ts";
import { chooseColors, type Io } from "./io.ts";
import { runNetctl } from "./program.ts";
import { Progress } from "./progress.ts";

/** Signals that an operator or a supervisor sends to netctl and means for the command that it runs. */
const handedOn: readonly NodeJS.Signals[] = [
  "SIGTERM",
  "SIGHUP",
  "SIGUSR1",
  "SIGUSR2",
  "SIGCONT",
  "SIGWINCH",
];
/** The terminal sends these to the whole process group, the command included: netctl has to outlive them. */
const outlived: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT"];

function runAttached(file: string, args: readonly string[], environment: Environment): Promise<number> {
  return new Promise((resolve, reject) => {
    // Before the command starts: it may be known to run, and be sent a signal, while spawn() has not returned yet.
    const handlers = [
      ...handedOn.map((signal) => [signal, () => child.kill(signal)] as const),
      ...outlived.map((signal) => [signal, () => undefined] as const),
    ];
    for (const [signal, handler] of handlers) process.on(signal, handler);
    const settle = () => {
      for (const [signal, handler] of handlers) process.off(signal, handler);
    };
    const child = spawn(file, args, { stdio: "inherit", env: { ...environment } });
    child.on("error", (error) => {
      settle();
      reject(new Error(`Cannot run ${file}: ${messageOf(error)}`, { cause: error }));
    });
    child.on("close", (code, signal) => {
      settle();
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

const progress = process.stderr.isTTY ? new Progress(process.stderr) : undefined;

async function ask(question: string): Promise<string> {
  progress?.show(undefined);
  process.stderr.write(question);
  const lines = createInterface({ input: process.stdin });
  try {
    for await (const line of lines) return line.trim();
    return "";
  } finally {
    lines.close();
  }
}

/** Somebody may have removed it from under the shell. */
function findWorkingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return "/";
  }
}

const io: Io = {
  stdout: (text) => {
    progress?.hide();
    process.stdout.write(text);
  },
  stderr: (text) => {
    progress?.hide();
    process.stderr.write(text);
  },
  stdoutBytes: (bytes) => {
    process.stdout.write(bytes);
  },
  redraw: process.stdout.isTTY ? (text) => logUpdate(text) : (text) => process.stdout.write(text),
  progress: (text) => progress?.show(text),
  ask,
  colors: chooseColors(process.env, process.stdout.isTTY),
  workingDirectory: findWorkingDirectory(),
  runAttached,
};

// A reader that has seen enough, as in `netctl inspect | head`, is no fault.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const interruption = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // Once: what is half-done is taken back, and the second signal ends even that.
  process.once(signal, () => interruption.abort(new Interruption(signal)));
}

void runNetctl(process.argv.slice(2), process.env, io, interruption.signal).then((exitCode) => {
  process.exitCode = exitCode;
});
