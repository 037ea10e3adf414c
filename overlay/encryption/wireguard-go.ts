import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { userspaceControl } from "./uapi.ts";

const startTimeoutMs = 10_000;
const pollMs = 20;

export interface StartOptions {
  readonly device: string;
  /** What it complains of is written to a file there. */
  readonly directory: string;
  /** Called with its process id: it has to outlive this process, whatever group both were started in. */
  readonly adopt: (pid: number) => Promise<void>;
  /** It has ended, and with it the device. */
  readonly ended: () => void;
}

/**
 * Starts wireguard-go, for kernels without WireGuard: a process of its own, which neither ends with this one nor is
 * started again by it. Whoever comes later finds it by the device's name. It ends when its device is deleted.
 * @throws Error where it is not installed, or ends at once
 */
export async function startWireguardGo({ device, directory, adopt, ended }: StartOptions): Promise<void> {
  const log = join(directory, "wireguard-go.log");
  const fd = openSync(log, "w", 0o600);
  let failure: string | undefined;
  const child = spawn("wireguard-go", ["-f", device], {
    detached: true,
    stdio: ["ignore", fd, fd],
    env: { ...process.env, LOG_LEVEL: "error" },
  });
  closeSync(fd);
  child.once("error", (error) => {
    const isMissing = "code" in error && error.code === "ENOENT";
    failure = isMissing
      ? "this kernel has no WireGuard, and the program wireguard-go, which stands in for it, is not installed"
      : error.message;
  });
  child.once("exit", (code, signal) => {
    failure = `wireguard-go ended with ${signal ?? `code ${code}`}; it may have said why in ${log}`;
    ended();
  });
  child.unref();
  if (child.pid !== undefined) await adopt(child.pid);
  const deadlineMs = performance.now() + startTimeoutMs;
  for (;;) {
    if (failure !== undefined) throw new Error(failure);
    try {
      await userspaceControl.read(device);
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
    }
    await sleep(pollMs);
  }
}
