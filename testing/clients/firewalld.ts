import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestNamespace } from "#testing/test-namespace.ts";

/** As the package brings it, but that it never takes kernel modules away: those are the machine's. */
const settings = `DefaultZone=public
CleanupOnExit=yes
CleanupModulesOnExit=no
Lockdown=no
IPv6_rpfilter=yes
IndividualCalls=no
LogDenied=off
FirewallBackend=nftables
FlushAllOnReload=yes
RFC3964_IPv4=yes
`;

/**
 * The real firewalld, in a network namespace, on a bus of its own and with a configuration of its own: neither the
 * machine's rules nor its bus are in reach.
 */
export class FirewalldRig {
  readonly #host: TestNamespace;
  readonly #directory = mkdtempSync(join(tmpdir(), "netctl-firewalld-"));
  #bus: ChildProcess | undefined;
  #daemon: ChildProcess | undefined;

  /** Before the bus and the daemon are started. */
  constructor(host: TestNamespace) {
    this.#host = host;
  }

  /** For whoever has to find it. */
  get environment(): Readonly<Record<string, string>> {
    return { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${this.#path("bus")}` };
  }

  async startBus(): Promise<void> {
    writeFileSync(
      this.#path("bus.conf"),
      `<busconfig><listen>unix:path=${this.#path("bus")}</listen><auth>EXTERNAL</auth><policy context="default">
       <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>`,
    );
    const args = [`--config-file=${this.#path("bus.conf")}`, "--nofork", "--print-address"];
    const bus = spawn("dbus-daemon", args, { stdio: ["ignore", "pipe", "ignore"] });
    this.#bus = bus;
    await new Promise<void>((resolve, reject) => {
      bus.once("error", reject);
      bus.once("exit", () => reject(new Error("dbus-daemon has ended")));
      bus.stdout.once("data", () => resolve());
    });
  }

  /** Returns once it has its rules in place. */
  async start(): Promise<void> {
    mkdirSync(this.#path("etc"), { recursive: true });
    writeFileSync(this.#path("etc/firewalld.conf"), settings);
    const places = ["--system-config", this.#path("etc"), "--log-target", "file"];
    const args = ["firewalld", "--nofork", "--nopid", ...places, "--log-file", this.#path("log")];
    const daemon = spawn("nsenter", [`--net=${this.#host.path}`, "unshare", "--mount", ...args], {
      env: { PATH: process.env["PATH"] ?? "", ...this.environment },
      stdio: "ignore",
    });
    this.#daemon = daemon;
    for (;;) {
      if (daemon.exitCode !== null)
        throw new Error(`firewalld has ended: ${readFileSync(this.#path("log"), "utf8")}`);
      try {
        await this.command("--state");
        return;
      } catch {
        await sleep(50);
      }
    }
  }

  /** As `systemctl stop firewalld`. */
  async stop(): Promise<void> {
    await end(this.#daemon, "SIGTERM");
    this.#daemon = undefined;
  }

  /** `firewall-cmd WORDS…` @returns what it prints */
  async command(...words: readonly string[]): Promise<string> {
    const [key, value] = Object.entries(this.environment)[0] ?? [];
    const quoted = words.map((word) => `'${word}'`).join(" ");
    return (await this.#host.runAsync(`${key}='${value}' firewall-cmd ${quoted}`)).trim();
  }

  async remove(): Promise<void> {
    await end(this.#daemon, "SIGKILL");
    await end(this.#bus, "SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await ended;
}
