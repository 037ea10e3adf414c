import { readFileSync } from "node:fs";
import type { NamespaceIdentity } from "#cni/plugin.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { ProcessTable } from "#runtime/namespace-processes.ts";

/** One network namespace of this machine, and how one gets at it. */
export interface FoundNamespace {
  readonly identity: NamespaceIdentity;
  /** Files on which it is mounted. */
  readonly paths: readonly string[];
  /** Processes in it, by number. */
  readonly pids: readonly number[];
}

/** How the kernel writes it: `readlink /proc/PID/ns/net`. */
export const namespaceId = ({ ino }: NamespaceIdentity): string => `net:[${ino}]`;

/** By which it can be opened. */
export function pathOf({ paths, pids }: FoundNamespace): string {
  return paths[0] ?? `/proc/${pids[0]}/ns/net`;
}

/**
 * Every network namespace that a process is in, or that is mounted where this process sees it. One that is held by an
 * open file alone has no name, and is not found.
 * @param more paths that somebody has recorded
 */
export function listNamespaces(more: readonly string[] = []): readonly FoundNamespace[] {
  const found = new Map<string, { identity: NamespaceIdentity; paths: string[]; pids: readonly number[] }>();
  for (const { namespace, pids } of ProcessTable.read().namespaces())
    found.set(keyOf(namespace), { identity: namespace, paths: [], pids: pids.toSorted((a, b) => a - b) });
  for (const path of new Set([...more, ...mountedFiles(readFileSync("/proc/self/mountinfo", "utf8"))])) {
    const identity = lookAt(path);
    if (identity === undefined) continue;
    const entry = found.get(keyOf(identity)) ?? { identity, paths: [], pids: [] };
    if (!/^\/proc\/\d+\//.test(path)) entry.paths.push(path);
    found.set(keyOf(identity), entry);
  }
  return [...found.values()].filter(({ paths, pids }) => paths.length + pids.length > 0);
}

/** Paths of the mounted network namespaces in the text of /proc/PID/mountinfo: proc_pid_mountinfo(5). */
export function mountedFiles(mountinfo: string): readonly string[] {
  return mountinfo.split("\n").flatMap((line) => {
    const [, , , root = "", path = ""] = line.split(" ");
    if (!root.startsWith("net:[")) return [];
    return [path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))];
  });
}

function lookAt(path: string): NamespaceIdentity | undefined {
  try {
    const identity = identifyNamespace(path);
    return typeof identity === "string" ? undefined : identity;
  } catch {
    return undefined;
  }
}

const keyOf = ({ dev, ino }: NamespaceIdentity) => `${dev}:${ino}`;
