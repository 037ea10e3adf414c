import { readdirSync, readFileSync, statSync } from "node:fs";
import type { NamespaceIdentity } from "#cni/plugin.ts";

export interface NamespaceProcess {
  readonly pid: number;
  /** As in /proc/PID/comm: at most 15 bytes of the program's name. */
  readonly command: string;
}

/**
 * Processes whose network namespace is this one, by pid. Walks /proc once; those that end meanwhile, and those
 * that may not be looked at, are passed over.
 */
export function processesIn(namespace: NamespaceIdentity): readonly NamespaceProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const { dev, ino } = statSync(`/proc/${name}/ns/net`);
        if (dev !== namespace.dev || ino !== namespace.ino) return [];
        return [{ pid: Number(name), command: readFileSync(`/proc/${name}/comm`, "utf8").trimEnd() }];
      } catch {
        return [];
      }
    })
    .sort((a, b) => a.pid - b.pid);
}
