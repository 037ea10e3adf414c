import { readdirSync, readFileSync, statSync } from "node:fs";
import type { NamespaceIdentity } from "#cni/plugin.ts";

export interface NamespaceProcess {
  readonly pid: number;
  /** As in /proc/PID/comm: at most 15 bytes of the program's name. */
  readonly command: string;
}

/** Every process by its network namespace, as one walk of /proc found them. */
export class ProcessTable {
  readonly #found = new Map<string, { readonly namespace: NamespaceIdentity; readonly pids: number[] }>();

  /** Those that end meanwhile, and those that may not be looked at, are passed over. */
  static read(): ProcessTable {
    const table = new ProcessTable();
    for (const name of readdirSync("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      try {
        table.#add(statSync(`/proc/${name}/ns/net`), Number(name));
      } catch {
        // It has ended, or is not ours to look at.
      }
    }
    return table;
  }

  /** By pid. */
  in(namespace: NamespaceIdentity): readonly NamespaceProcess[] {
    const pids = this.#found.get(keyOf(namespace))?.pids ?? [];
    return [...pids].sort((a, b) => a - b).map((pid) => ({ pid, command: readCommand(pid) }));
  }

  /** Every namespace that a process is in, with the pids there. */
  namespaces(): readonly { readonly namespace: NamespaceIdentity; readonly pids: readonly number[] }[] {
    return [...this.#found.values()];
  }

  #add({ dev, ino }: NamespaceIdentity, pid: number): void {
    const key = keyOf({ dev, ino });
    const found = this.#found.get(key);
    if (found === undefined) this.#found.set(key, { namespace: { dev, ino }, pids: [pid] });
    else found.pids.push(pid);
  }
}

const keyOf = ({ dev, ino }: NamespaceIdentity) => `${dev}:${ino}`;

/** /proc/PID/comm; empty for a process that has ended. */
export function readCommand(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trimEnd();
  } catch {
    return "";
  }
}
