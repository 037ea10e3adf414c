import { readdirSync, readFileSync, statSync } from "node:fs";
import type { NamespaceIdentity } from "#cni/plugin.ts";

export interface NamespaceProcess {
  readonly pid: number;
  /** As in /proc/PID/comm: at most 15 bytes of the program's name. */
  readonly command: string;
}

/** Every process by its network namespace, as one walk of /proc found them. */
export class ProcessTable {
  readonly #pids = new Map<string, number[]>();

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
    const pids = this.#pids.get(keyOf(namespace)) ?? [];
    return [...pids].sort((a, b) => a - b).map((pid) => ({ pid, command: readCommand(pid) }));
  }

  #add(namespace: NamespaceIdentity, pid: number): void {
    const key = keyOf(namespace);
    const pids = this.#pids.get(key);
    if (pids === undefined) this.#pids.set(key, [pid]);
    else pids.push(pid);
  }
}

const keyOf = ({ dev, ino }: NamespaceIdentity) => `${dev}:${ino}`;

function readCommand(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trimEnd();
  } catch {
    return "";
  }
}
