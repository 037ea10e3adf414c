import { readdir, readFile, readlink } from "node:fs/promises";

/** A process that has a socket open. */
export interface SocketOwner {
  readonly pid: number;
  /** At most 15 bytes, as the kernel keeps it. */
  readonly name: string;
  readonly commandLine: readonly string[];
}

/**
 * Who has the socket open; undefined where that is not to be seen, as from a PID namespace of one's own. Looks through
 * all processes' files: for error messages, not for what happens often.
 * @param inode as in /proc/PID/fd: `socket:[INODE]`
 */
export async function findSocketOwner(inode: number): Promise<SocketOwner | undefined> {
  const wanted = `socket:[${inode}]`;
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    if (await hasOpen(`/proc/${pid}/fd`, wanted)) return await describe(Number(pid));
  }
  return undefined;
}

async function hasOpen(directory: string, wanted: string): Promise<boolean> {
  try {
    for (const fd of await readdir(directory)) {
      const target = await readlink(`${directory}/${fd}`).catch(() => "");
      if (target === wanted) return true;
    }
  } catch {
    // It has ended meanwhile, or is not ours to look at.
  }
  return false;
}

async function describe(pid: number): Promise<SocketOwner | undefined> {
  try {
    const name = (await readFile(`/proc/${pid}/comm`, "utf8")).trimEnd();
    const commandLine = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").slice(0, -1);
    return { pid, name, commandLine };
  } catch {
    return undefined;
  }
}
