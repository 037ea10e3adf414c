// Main of a plugin process: what the launcher becomes where no netd runs. argv[2] is the plugin's name.

import { readSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import { crashPoint, withCrashPoints } from "#machine/crash-point.ts";
import { errorCode } from "#machine/io-error.ts";
import { type LineSink, type LogLevel, lineLog } from "#machine/log.ts";
import { LogFile, logFilePath } from "#machine/log-file.ts";
import { native } from "#native/addon.ts";
import { openHost } from "./host.ts";
import { loadPlugin, pluginNames } from "./plugins.ts";
import { runPlugin } from "./run-plugin.ts";
import { callFields, withOutcomeLogged } from "./verb-log.ts";

const levels: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];

/** The launcher has the same limit. */
const maxInputBytes = 4 * 1024 * 1024;

/** Wakes nobody up: to sleep in the middle of a write. */
const never = new Int32Array(new SharedArrayBuffer(4));

/** All of `text`, also into a pipe that is full for the moment. False where nobody will ever read it. */
function writeAll(fd: number, text: string): boolean {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if (errorCode(error) !== "EAGAIN") return false;
      Atomics.wait(never, 0, 0, 1);
    }
  }
  return true;
}

/** All of stdin, also where the runtime hands in a pipe that does not block. */
async function readInput(): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(65_536);
    try {
      const size = readSync(0, chunk);
      if (size === 0) return Buffer.concat(chunks).toString();
      chunks.push(chunk.subarray(0, size));
      bytes += size;
    } catch (error) {
      if (errorCode(error) !== "EAGAIN") {
        const reason = error instanceof Error ? error.message : String(error);
        throw new CniError(
          ErrorCode.IoFailure,
          `Cannot read the network configuration from stdin: ${reason}`,
        );
      }
      await sleep(1);
    }
    if (bytes > maxInputBytes) {
      throw new CniError(
        ErrorCode.DecodingFailure,
        "Cannot read the network configuration: stdin is longer than 4 MiB",
      );
    }
  }
}

let isPrinted = false;

function finish(outcome: Outcome): never {
  let { exitCode } = outcome;
  if (!isPrinted) {
    isPrinted = true;
    writeAll(2, outcome.stderr);
    if (!writeAll(1, outcome.stdout)) exitCode ||= 1;
  }
  process.exit(exitCode);
}

/** Ends the verb as one does whose caller has gone: what it began is rolled back. A second signal kills. */
function abortOnSignal(): AbortSignal {
  const abort = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () =>
      abort.abort(new CniError(ErrorCode.TryAgainLater, `Cannot go on: ended by ${name}`)),
    );
  }
  return abort.signal;
}

async function main(): Promise<Outcome> {
  const name = process.argv[2] ?? "";
  const plugin = await loadPlugin(name);
  if (!plugin) {
    throw new CniError(
      ErrorCode.Internal,
      `Cannot run "${name}": no plugin of that name; there are ${pluginNames.join(", ")}`,
    );
  }
  const environment = process.env;
  const verb = environment["CNI_COMMAND"];
  const level = levels.find((each) => each === environment["NETCTL_LOG_LEVEL"]);
  const file = new LogFile(logFilePath(environment));
  const fileSink: LineSink = { level: level ?? "info", events: true, write: (line) => file.append(line) };
  // What the runtime shows with a failure; the outcome of the call it has already.
  const stderrSink: LineSink = { level: level ?? "warn", write: (line) => writeAll(2, line) };
  const bindings = { pid: process.pid };
  const host = openHost(environment, lineLog([stderrSink, fileSink], bindings));
  // The answer need not wait for what the kernel does after a link is gone.
  if (verb === "ADD" || verb === "DEL" || verb === "GC") native().deleteLinksByChild(true);
  const needsInput = verb !== undefined && verb !== "" && verb !== "VERSION";
  try {
    const stdin = needsInput ? await readInput() : "";
    return await withCrashPoints("standalone", environment, async () => {
      const call = { environment: { ...environment }, stdin, signal: abortOnSignal() };
      const fields = callFields(name, call);
      const outcome = await withOutcomeLogged(lineLog([fileSink], { ...bindings, ...fields }), call, () =>
        runPlugin(plugin, call, host.withLog(host.log.with(fields))),
      );
      crashPoint("before-print");
      return outcome;
    });
  } finally {
    await host.close();
  }
}

process.on("uncaughtException", (error) => finish(fail(error)));
process.on("unhandledRejection", (error) => finish(fail(error)));
main().then(finish, (error: unknown) => finish(fail(error)));
