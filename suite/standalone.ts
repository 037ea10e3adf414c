// Main of a plugin process: what the launcher becomes where no netd runs. argv[2] is the plugin's name.

import { readSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import { crashPoint, withCrashPoints } from "#machine/crash-point.ts";
import { type LogLevel, lineLog } from "#machine/log.ts";
import { openHost } from "./host.ts";
import { plugins } from "./plugins.ts";
import { runPlugin } from "./run-plugin.ts";

const levels: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];

/** All of `text`, also into a pipe that is full for the moment. */
function writeAll(fd: number, text: string): void {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if (!(error instanceof Error) || !("code" in error)) throw error;
      if (error.code === "EPIPE") return;
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

/** All of stdin, also where the runtime hands in a pipe that does not block. */
async function readInput(): Promise<string> {
  const chunks: Buffer[] = [];
  for (;;) {
    const chunk = Buffer.allocUnsafe(65_536);
    try {
      const size = readSync(0, chunk);
      if (size === 0) return Buffer.concat(chunks).toString();
      chunks.push(chunk.subarray(0, size));
    } catch (error) {
      if (!(error instanceof Error) || !("code" in error)) throw error;
      if (error.code === "EOF") return Buffer.concat(chunks).toString();
      if (error.code !== "EAGAIN") {
        throw new CniError(ErrorCode.IoFailure, `Cannot read the configuration from stdin: ${error.message}`);
      }
      await sleep(1);
    }
  }
}

let isPrinted = false;

function finish(outcome: Outcome): void {
  if (!isPrinted) {
    isPrinted = true;
    writeAll(2, outcome.stderr);
    writeAll(1, outcome.stdout);
  }
  process.exit(outcome.exitCode);
}

async function main(): Promise<Outcome> {
  const name = process.argv[2] ?? "";
  const plugin = plugins.get(name);
  if (!plugin) {
    throw new CniError(
      ErrorCode.Internal,
      `Cannot run "${name}": no plugin of that name; there are ${[...plugins.keys()].join(", ")}`,
    );
  }
  const environment = process.env;
  const verb = environment["CNI_COMMAND"];
  const level = levels.find((each) => each === environment["NETCTL_LOG_LEVEL"]) ?? "warn";
  const host = openHost(
    environment,
    lineLog(level, (line) => writeAll(2, line)),
  );
  const needsInput = verb !== undefined && verb !== "" && verb !== "VERSION";
  try {
    const stdin = needsInput ? await readInput() : "";
    return await withCrashPoints("standalone", environment, async () => {
      const outcome = await runPlugin(plugin, { environment: { ...environment }, stdin }, host);
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
