import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import type { NamespaceIdentity } from "#cni/plugin.ts";

/** The process that stays with a container, or a pod, for as long as it runs. */
export interface Supervisor {
  readonly kind: "containerd-shim" | "conmon";
  readonly arguments: readonly string[];
  /** Of a shim: the bundle of its first container. */
  readonly workingDirectory: string;
}

/** /proc/PID/comm holds 15 bytes of a name. */
const kinds: Readonly<Record<string, Supervisor["kind"]>> = {
  "containerd-shim": "containerd-shim",
  conmon: "conmon",
};

/**
 * The supervisors of one host, whatever directories their daemons were told to use: each carries its container's id and
 * directory on its command line. Those that end meanwhile are passed over.
 * @param host its network namespace: they stay in that of their daemon
 */
export function listSupervisors(host: NamespaceIdentity): readonly Supervisor[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const kind = kinds[readFileSync(join("/proc", pid, "comm"), "utf8").trimEnd()];
        if (kind === undefined) return [];
        const { dev, ino } = statSync(join("/proc", pid, "ns/net"));
        if (dev !== host.dev || ino !== host.ino) return [];
        const words = readFileSync(join("/proc", pid, "cmdline"), "utf8").split("\0");
        const workingDirectory = readlinkSync(join("/proc", pid, "cwd"));
        return [{ kind, arguments: words.filter((word) => word !== ""), workingDirectory }];
      } catch {
        return [];
      }
    });
}

/** The value behind an option of one word: `-id ID`, `-c ID`. */
export function optionOf(supervisor: Supervisor, ...names: readonly string[]): string | undefined {
  const at = supervisor.arguments.findIndex((word) => names.includes(word));
  return at === -1 ? undefined : supervisor.arguments[at + 1];
}
