import { spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { runTool } from "./command.ts";

/** Set in the environment of the process that runs inside. */
export const secludedVariable = "CONFORMANCE_SECLUDED";

/**
 * Runs this program again in a mount and a process namespace of its own, and answers with its exit code.
 * Whatever happens to it, a SIGKILL included, the kernel then ends every process that it started and drops every
 * mount and with it every network namespace. Like `unshare --mount --pid --fork --kill-child --mount-proc`.
 */
export async function runSecluded(script: string, args: readonly string[]): Promise<number> {
  const child = spawn(
    "unshare",
    [
      "--mount",
      "--propagation",
      "private",
      "--pid",
      "--fork",
      "--kill-child=SIGKILL",
      "--mount-proc",
      process.execPath,
      script,
      ...args,
    ],
    // The pipe is a life line: the program inside ends when it closes.
    { stdio: ["pipe", "inherit", "inherit"], env: { ...process.env, [secludedVariable]: "1" } },
  );
  const stop = (): void => {
    // unshare itself waits for its child, whatever it is sent; a second is for the summary line.
    child.stdin.end();
    setTimeout(() => child.kill("SIGKILL"), 1000).unref();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (exitCode, signal) => resolve(exitCode ?? (signal === "SIGKILL" ? 130 : 1)));
  });
}

/** Calls `stop` when the life line closes, or on a signal. Only inside. */
export function watchLifeLine(stop: () => void): void {
  process.stdin.on("end", stop);
  process.stdin.on("error", stop);
  process.stdin.resume();
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
}

/**
 * Covers the directories in which network tools keep their state with empty ones, so that nothing of the
 * machine's is read and nothing lands there. A directory that holds one of the `needed` paths stays as it is.
 */
export async function coverState(needed: readonly string[]): Promise<void> {
  for (const directory of ["/run", "/var/lib"]) {
    if (needed.some((path) => path === directory || path.startsWith(`${directory}/`))) continue;
    await runTool("mount", ["-t", "tmpfs", "-o", "mode=755", "conformance", directory]);
  }
  await mkdir("/run/netns", { recursive: true });
}
