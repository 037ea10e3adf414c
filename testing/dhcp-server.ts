import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitUntil } from "#kernel/wait.ts";
import { patience } from "./patience.ts";
import type { TestNamespace } from "./test-namespace.ts";

/** A DHCP server of Debian on one link of a test's namespace: dnsmasq, or that of the ISC. */
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
    return await DhcpServer.#launch(namespace, directory, ["dnsmasq", ...args], /started, version/);
  }

  /** The ISC's server for DHCPv6. @param config as in dhcpd6.conf */
  static async startIsc6(namespace: TestNamespace, dev: string, config: string): Promise<DhcpServer> {
    const directory = mkdtempSync(join(tmpdir(), "netctl-dhcp-"));
    const [conf, leases] = [join(directory, "dhcpd6.conf"), join(directory, "leases")];
    // A copy: where AppArmor is, it forbids the one of the package to read its configuration here.
    const program = join(directory, "dhcpd");
    copyFileSync("/usr/sbin/dhcpd", program);
    writeFileSync(conf, config);
    writeFileSync(leases, "");
    const command = [program, "-6", "-d", "-cf", conf, "-lf", leases, "--no-pid", dev];
    return await DhcpServer.#launch(namespace, directory, command, /Server starting service/);
  }

  static async #launch(
    namespace: TestNamespace,
    directory: string,
    command: readonly string[],
    ready: RegExp,
  ): Promise<DhcpServer> {
    const child = spawn("nsenter", [`--net=${namespace.path}`, ...command]);
    const server = new DhcpServer(child, directory);
    await server.saw(ready);
    return server;
  }

  /** Waits until the server has logged it. @returns what was logged so far */
  async saw(what: RegExp): Promise<string> {
    const look = () => {
      if (this.#child.exitCode !== null) throw new Error(`the server has ended: ${this.#log}`);
      return what.test(this.#log) || undefined;
    };
    await waitUntil(`the server to log ${String(what)}`, look, { timeoutMs: 10_000 * patience });
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
