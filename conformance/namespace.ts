import { randomBytes } from "node:crypto";
import { type CommandOptions, type Completed, runCommand, runTool } from "./command.ts";

/** A network namespace that the kit made with `ip netns add`. */
export class Namespace {
  readonly name: string;
  /** As a runtime passes it in CNI_NETNS. */
  readonly path: string;
  /** How many times as long as usual an answer from inside may take. */
  readonly patience: number;
  #removed = false;

  private constructor(name: string, patience: number) {
    this.name = name;
    this.patience = patience;
    this.path = `/run/netns/${name}`;
  }

  /** A new namespace with `lo` down, as every new namespace has it. */
  static async create(label: string, patience = 1): Promise<Namespace> {
    const namespace = new Namespace(`cf-${label}-${randomBytes(4).toString("hex")}`, patience);
    await runTool("ip", ["netns", "add", namespace.name]);
    return namespace;
  }

  get removed(): boolean {
    return this.#removed;
  }

  /** Removes the name; the namespace itself goes with its last process. Does nothing the second time. */
  async remove(): Promise<void> {
    if (this.#removed) return;
    this.#removed = true;
    await runTool("ip", ["netns", "delete", this.name]);
  }

  /** Ends every process inside, as `ip netns pids` lists them. The run has a process namespace of its own. */
  async endProcesses(): Promise<void> {
    const processIds = await runTool("ip", ["netns", "pids", this.name]);
    for (const processId of processIds.split("\n").map(Number)) {
      try {
        if (processId > 1) process.kill(processId, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
  }

  /** Runs a command inside, whatever its exit code. */
  enter(command: string, args: readonly string[], options: CommandOptions = {}): Promise<Completed> {
    return runCommand("/usr/bin/nsenter", [`--net=${this.path}`, command, ...args], options);
  }

  /**
   * Runs `ip` with the words of `line` inside.
   * @throws {Error} if ip fails
   */
  async ip(line: string): Promise<string> {
    return runTool("ip", ["-n", this.name, ...line.trim().split(/\s+/)]);
  }

  /** Runs several `ip` lines in one process, in order. */
  async ipBatch(lines: readonly string[]): Promise<void> {
    await runTool("ip", ["-n", this.name, "-batch", "-"], { stdin: `${lines.join("\n")}\n` });
  }

  /**
   * Runs `script` by sh inside.
   * @throws {Error} unless it exits with 0
   */
  async shell(script: string): Promise<string> {
    return runTool("/usr/bin/nsenter", [`--net=${this.path}`, "sh", "-c", script]);
  }

  /** Reads a sysctl by its path below /proc/sys; undefined if there is none. */
  async sysctl(path: string): Promise<string | undefined> {
    const completed = await this.enter("cat", [`/proc/sys/${path}`]);
    return completed.exitCode === 0 ? completed.stdout.trim() : undefined;
  }

  async setSysctl(path: string, value: string): Promise<void> {
    await this.shell(`echo ${value} > /proc/sys/${path}`);
  }
}
