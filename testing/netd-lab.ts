import { type ChildProcess, spawn } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { libDirectory } from "#native/lib-directory.ts";
import { compileLauncher, type Ended } from "./launcher-rig.ts";
import { TestNamespace } from "./test-namespace.ts";

const root = join(import.meta.dirname, "..");
const pluginNames = [
  "bridge",
  "host",
  "none",
  "loopback",
  "host-local",
  "static",
  "dhcp",
  "portmap",
  "firewall",
  "dns",
  "overlay-vxlan",
];
const pauseMs = 5;

/**
 * An IPAM plugin of somebody else: says that it was asked, and hands out its address once the file "open" is there.
 * Its files are in $GATE, which a netd that cleans up does not know.
 */
const waitingIpam = `#!/bin/sh
cat > /dev/null
case $CNI_COMMAND in
ADD)
  ls -l /proc/self/fd > "$GATE/fds"
  : > "$GATE/arrived-$CNI_CONTAINERID"
  while [ ! -e "$GATE/open" ]; do sleep 0.02; done
  echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.9/24"}]}' ;;
DEL) [ -z "$GATE" ] || : > "$GATE/released-$CNI_CONTAINERID" ;;
esac
`;

/** launcher, netd and standalone program of the sources as they are now, with crash points, in a directory. */
export interface BuiltService {
  readonly bin: string;
  /** netd.cjs and what it needs. */
  readonly lib: string;
  /** Plugins of somebody else. */
  readonly foreign: string;
  remove(): void;
}

export async function buildService(): Promise<BuiltService> {
  const directory = mkdtempSync(join(tmpdir(), "netctl-service-"));
  const [lib, bin, foreign] = ["lib", "bin", "foreign"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const each of [lib, bin, foreign]) mkdirSync(each);
  await build({
    entryPoints: [
      { in: join(root, "netd/main.ts"), out: "netd" },
      { in: join(root, "suite/standalone.ts"), out: "standalone" },
      { in: join(root, "dns-resolver/main.ts"), out: "resolver" },
      { in: join(root, "netctl/main.ts"), out: "netctl" },
    ],
    outdir: lib,
    outExtension: { ".js": ".cjs" },
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    logLevel: "error",
    logOverride: { "empty-import-meta": "silent" },
    define: { NETCTL_LIB_DIRECTORY: "__dirname", NETCTL_FAULTS: "true" },
  });
  copyFileSync(join(libDirectory(), "native.node"), join(lib, "native.node"));
  compileLauncher(lib, { faults: true });
  for (const name of [...pluginNames, "netctl"]) copyFileSync(join(lib, "launcher"), join(bin, name));
  writeFileSync(join(foreign, "waiting"), waitingIpam, { mode: 0o755 });
  return {
    bin,
    foreign,
    lib,
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

export interface ServiceCall {
  readonly plugin?: string;
  readonly containerId?: string;
  readonly netns?: string;
  readonly config?: unknown;
  readonly environment?: Readonly<Record<string, string>>;
  /** Where it is called from, in place of the lab's host. */
  readonly host?: TestNamespace;
  /** A program and its arguments that become the launcher. */
  readonly through?: readonly string[];
}

export interface NetdOptions {
  readonly host?: TestNamespace;
  readonly environment?: Readonly<Record<string, string>>;
  readonly nodeOptions?: readonly string[];
  /** In place of the one that was built. */
  readonly program?: string;
}

export interface ServedCall extends Ended {
  /** Who has carried it out, in order. */
  readonly by: readonly ("netd" | "standalone")[];
}

/** A host of its own, with run and state directories, in which real launchers meet real netds. */
export class NetdLab {
  readonly host = TestNamespace.create("netd-host");
  readonly directory = mkdtempSync(join(tmpdir(), "netctl-netd-"));
  readonly #service: BuiltService;
  readonly #namespaces: TestNamespace[] = [];
  #calls = 0;

  constructor(service: BuiltService) {
    this.#service = service;
    mkdirSync(this.path("gate"));
  }

  path(...parts: readonly string[]): string {
    return join(this.directory, ...parts);
  }

  namespace(hint = "netd-container"): TestNamespace {
    const namespace = TestNamespace.create(hint);
    this.#namespaces.push(namespace);
    return namespace;
  }

  config(extra: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
    return {
      cniVersion: "1.1.0",
      name: "net1",
      type: "bridge",
      bridge: "br1",
      ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }]] },
      ...extra,
    };
  }

  get environment(): Record<string, string> {
    return {
      PATH: process.env["PATH"] ?? "",
      NETCTL_STATE_DIR: this.path("state"),
      NETCTL_RUN_DIR: this.path("run"),
      NETCTL_BIN_DIR: this.#service.foreign,
      NETCTL_NETD: "never",
      NETCTL_NETD_CGROUP: "none",
      NETCTL_LOG_FILE: this.path("netd.log"),
      CNI_PATH: `${this.#service.bin}:${this.#service.foreign}`,
      GATE: this.path("gate"),
      // A busy machine lets netd take its time; who does the work is asked all the same.
      NETCTL_ACCEPT_TIMEOUT_MS: "30000",
    };
  }

  /** Starts one verb; the caller waits for its end. */
  start(
    verb: string,
    call: ServiceCall = {},
  ): { readonly child: ChildProcess; readonly ended: Promise<ServedCall> } {
    const { plugin = "bridge", containerId = "c1", netns = "", environment, through = [] } = call;
    const trace = this.path(`trace-${this.#calls++}`);
    const command = [...through, join(this.#service.bin, plugin)];
    const child = spawn("nsenter", [`--net=${(call.host ?? this.host).path}`, ...command], {
      stdio: ["pipe", "pipe", "pipe"],
      env: {
        ...this.environment,
        CNI_COMMAND: verb,
        CNI_CONTAINERID: containerId,
        CNI_IFNAME: "eth0",
        CNI_NETNS: netns,
        NETCTL_FAULT_TRACE: trace,
        ...environment,
      },
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on("error", () => {});
    const { config = this.config() } = call;
    child.stdin.end(typeof config === "string" ? config : JSON.stringify(config));
    const ended = new Promise<ServedCall>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (exitCode, signal) =>
        resolve({ exitCode, signal, stdout, stderr, by: placesIn(trace) }),
      );
    });
    return { child, ended };
  }

  async call(verb: string, call: ServiceCall = {}): Promise<ServedCall> {
    return await this.start(verb, call).ended;
  }

  /** An ADD of the plugin above, which has got as far as its IPAM. */
  async startWaiting(call: ServiceCall) {
    const started = this.start("ADD", { config: this.config({ ipam: { type: "waiting" } }), ...call });
    await this.file("gate", `arrived-${call.containerId ?? "c1"}`);
    return started;
  }

  /** Lets the plugin above answer. */
  openGate(): void {
    writeFileSync(this.path("gate/open"), "");
  }

  /** Starts netd as a service manager would. */
  spawnNetd(options: NetdOptions = {}): ChildProcess {
    const {
      host = this.host,
      environment,
      nodeOptions = [],
      program = join(this.#service.lib, "netd.cjs"),
    } = options;
    const args = [`--net=${host.path}`, process.execPath, ...nodeOptions, program];
    return spawn("nsenter", args, { stdio: "ignore", env: { ...this.environment, ...environment } });
  }

  /** Starts netd and waits until it serves. */
  async startNetd(options: NetdOptions = {}): Promise<ChildProcess> {
    const { host } = options;
    const before = this.#announced(host);
    const netd = this.spawnNetd(options);
    while (this.#announced(host) === before) {
      if (netd.exitCode !== null) throw new Error(`netd ended with ${netd.exitCode}: ${this.log()}`);
      await sleep(pauseMs);
    }
    return netd;
  }

  /** Until netd answers: as long as it starts, or takes longer than a launcher waits, that does the work itself. */
  async untilServed(): Promise<void> {
    for (;;) {
      const { by, exitCode } = await this.call("STATUS");
      if (by.join() === "netd" && exitCode === 0) return;
    }
  }

  /** The netd of a host, once it has started. */
  async servicePid(host = this.host): Promise<number> {
    for (;;) {
      const pid = this.#announced(host);
      if (pid !== undefined && isRunning(pid)) return pid;
      await sleep(pauseMs);
    }
  }

  #announced(host = this.host): number | undefined {
    const lock = this.socketPath(host).replace(/sock$/, "lock");
    const text = existsSync(lock) ? readFileSync(lock, "utf8") : "";
    return /^\d+\n$/.test(text) ? Number(text) : undefined;
  }

  socketPath(host = this.host): string {
    return this.path("run", `netd-${statSync(host.path, { bigint: true }).ino}.sock`);
  }

  log(): string {
    return existsSync(this.path("netd.log")) ? readFileSync(this.path("netd.log"), "utf8") : "";
  }

  /** Waits for a file. */
  async file(...parts: readonly string[]): Promise<void> {
    while (!existsSync(this.path(...parts))) await sleep(pauseMs);
  }

  /** Waits until the log has `text`. */
  async logged(text: string): Promise<void> {
    while (!this.log().includes(text)) await sleep(pauseMs);
  }

  links(namespace: TestNamespace): readonly string[] {
    return namespace.json<{ ifname: string }>("ip -j link").map(({ ifname }) => ifname);
  }

  /** Journal records and leases: empty if nothing is attached. */
  remains(): readonly string[] {
    return ["state/journal/net1", "state/networks/net1"].flatMap((folder) => {
      const path = this.path(folder);
      if (!existsSync(path)) return [];
      return readdirSync(path).filter((name) => !/^(last_reserved_ip|lock|\.)/.test(name));
    });
  }

  /** The netds that were started with the lab's directories. */
  netds(): readonly number[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .filter((name) => {
        const isNetd = readProcess(name, "cmdline").includes("netd.cjs");
        return isNetd && readProcess(name, "environ").includes(`=${this.path("run")}\0`);
      })
      .map(Number);
  }

  async remove(): Promise<void> {
    for (const pid of this.netds()) process.kill(pid, "SIGKILL");
    while (this.netds().length > 0) await sleep(pauseMs);
    for (const namespace of this.#namespaces) namespace.remove();
    this.host.remove();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Waits for a netd that `startNetd` has started. @returns its exit code; null if a signal has killed it */
export async function exitCodeOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    await new Promise((resolve) => child.once("exit", resolve));
  }
  return child.exitCode;
}

function isRunning(pid: number): boolean {
  const state = /\) (.)/.exec(readProcess(String(pid), "stat"))?.[1];
  return state !== undefined && state !== "Z";
}

export function readProcess(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    // It has ended.
    return "";
  }
}

function placesIn(trace: string): readonly ("netd" | "standalone")[] {
  const points = existsSync(trace) ? readFileSync(trace, "utf8").split("\n") : [];
  return (["netd", "standalone"] as const)
    .map((place) => ({ place, at: points.findIndex((point) => point.startsWith(`${place}/`)) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => a.at - b.at)
    .map(({ place }) => place);
}
