import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitUntil } from "#kernel/wait.ts";
import { patience } from "./patience.ts";
import type { TestNamespace } from "./test-namespace.ts";

/** Debian's dnsmasq as DHCP server on one link of a test's namespace. */
export class DhcpServer {
  readonly #child: ChildProcess;
  readonly #directory: string;
  #log = "";

  private constructor(child: ChildProcess, directory: string) {
    this.#child = child;
    this.#directory = directory;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (piece: Buffer) => (this.#log += piece.toString()));
    }
  }

  /** @param options of dnsmasq, with the ranges among them */
  static async start(namespace: TestNamespace, dev: string, options: readonly string[]): Promise<DhcpServer> {
    const directory = mkdtempSync(join(tmpdir(), "netctl-dhcp-"));
    const args = [
      "--conf-file=/dev/null",
      "--keep-in-foreground",
      "--log-facility=-",
      "--log-dhcp",
      "--port=0",
      "--no-ping",
      "--dhcp-authoritative",
      "--user=root",
      "--pid-file=",
      `--interface=${dev}`,
      `--dhcp-leasefile=${directory}/leases`,
      ...options,
    ];
    const child = spawn("nsenter", [`--net=${namespace.path}`, "dnsmasq", ...args]);
    const server = new DhcpServer(child, directory);
    await server.saw(/started, version/);
    return server;
  }

  /** Waits until the server has logged it. @returns what was logged so far */
  async saw(what: RegExp): Promise<string> {
    const look = () => {
      if (this.#child.exitCode !== null) throw new Error(`dnsmasq has ended: ${this.#log}`);
      return what.test(this.#log) || undefined;
    };
    await waitUntil(`dnsmasq to log ${String(what)}`, look, { timeoutMs: 10_000 * patience });
    return this.#log;
  }

  get log(): string {
    return this.#log;
  }

  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#child.once("exit", () => resolve()));
    if (this.#child.exitCode === null && this.#child.kill("SIGKILL")) await ended;
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
