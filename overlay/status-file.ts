import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { AgentStatus } from "./agent.ts";

/** Where netd says every second how its agent is. In the run directory: what it says does not outlive a reboot. */
export function overlayStatusPath(runDirectory: string): string {
  return join(runDirectory, "overlay", "status.json");
}

/** @returns undefined where no agent has said anything @throws nothing */
export function readOverlayStatus(
  runDirectory: string,
): (AgentStatus & { readonly ageMs: number }) | undefined {
  const path = overlayStatusPath(runDirectory);
  try {
    const status = JSON.parse(readFileSync(path, "utf8")) as AgentStatus;
    return { ...status, ageMs: Math.max(0, Date.now() - statSync(path).mtimeMs) };
  } catch {
    return undefined;
  }
}
