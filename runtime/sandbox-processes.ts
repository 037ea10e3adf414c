import type { NamespaceIdentity } from "#cni/plugin.ts";
import { errorCode } from "#machine/io-error.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { type NamespaceProcess, ProcessTable } from "./namespace-processes.ts";
import { SandboxFailure } from "./sandbox-failure.ts";

/** Every process of the host would count as one that runs in the sandbox. */
export function isOwnNamespace({ dev, ino }: NamespaceIdentity): boolean {
  const own = identifyNamespace("/proc/self/ns/net");
  return typeof own === "object" && own.dev === dev && own.ino === ino;
}

/**
 * Ends what runs in the namespace, or refuses: a process would keep it alive, unseen and without a network.
 * @throws {SandboxFailure}
 */
export async function emptyOfProcesses(
  name: string,
  namespace: NamespaceIdentity,
  kill: boolean,
): Promise<void> {
  const deadlineMs = performance.now() + 5000;
  for (;;) {
    const processes = ProcessTable.read().in(namespace);
    if (processes.length === 0) return;
    if (!kill) {
      throw new SandboxFailure(
        `sandbox ${name} is in use by ${describe(processes)}; stop it, or remove with --force`,
      );
    }
    if (performance.now() > deadlineMs) {
      throw new SandboxFailure(`Cannot end the processes of sandbox ${name}: ${describe(processes)}`);
    }
    for (const { pid } of processes) endProcess(pid);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}

function describe(processes: readonly NamespaceProcess[]): string {
  const shown = processes.slice(0, 5).map(({ pid, command }) => `${command} (pid ${pid})`);
  return processes.length > 5 ? `${shown.join(", ")} and ${processes.length - 5} more` : shown.join(", ");
}
