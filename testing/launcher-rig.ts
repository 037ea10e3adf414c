import { type ChildProcess, execFileSync, type StdioOptions, spawn } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Outcome } from "#cni/plugin.ts";
import { bodyBytes, decodeHeader, decodeRequest, headerBytes, type Request } from "#netd/protocol.ts";

const root = join(import.meta.dirname, "..");

/** Compiles native/launcher.c as it is now into `directory`. @param compiler of another machine, for its programs */
export function compileLauncher(
  directory: string,
  options: { readonly faults?: boolean; readonly compiler?: string } = {},
): void {
  const module = pathToFileURL(join(root, "scripts/build-programs.mjs")).href;
  const flags = JSON.stringify({ faults: options.faults ?? false });
  const script = `(await import(${JSON.stringify(module)})).buildLauncher(${JSON.stringify(directory)}, ${flags})`;
  execFileSync(process.execPath, ["--input-type=module", "-e", script], {
    env: { ...process.env, ...(options.compiler ? { CC: options.compiler } : {}) },
  });
}

/** In place of the real programs: say how they were started, and with what. */
const echo = (name: string) => `
const { readFileSync, writeFileSync, appendFileSync, readlinkSync } = require("node:fs");
const fds = require("node:fs").readdirSync("/proc/self/fd").filter((fd) => {
  try { return !/^(anon_inode|\\/dev\\/null|\\/proc)/.test(readlinkSync("/proc/self/fd/" + fd)); } catch { return false; }
});
if (${JSON.stringify(name)} === "netd") {
  const seen = { pid: process.pid, cwd: process.cwd(), environment: process.env,
    stdio: [0, 1, 2].map((fd) => readlinkSync("/proc/self/fd/" + fd)),
    lock: readlinkSync("/proc/self/fd/3"), session: readFileSync("/proc/self/stat", "utf8").split(") ")[1].split(" ")[3] };
  appendFileSync(process.env.NETCTL_TEST_NETD, JSON.stringify(seen) + "\\n");
  if (process.env.NETCTL_TEST_LINGER) setTimeout(() => {}, Number(process.env.NETCTL_TEST_LINGER));
} else {
  const stdin = readFileSync(0, "utf8");
  process.stdout.write(JSON.stringify({ program: ${JSON.stringify(name)}, argv: process.argv.slice(2), environment: process.env,
    stdin: stdin.length > 1000 ? stdin.length : stdin }));
}
`;

export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a program that was started in place of netd's answer says. */
export interface Standalone {
  readonly program: string;
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin: string | number;
}

export interface RunOptions {
  readonly name?: string;
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly stdin?: string | Buffer;
}

/** The launcher with stand-ins for everything that it starts and asks: nothing here acts on a network. */
export class LauncherRig {
  readonly directory = mkdtempSync(join(tmpdir(), "netctl-launcher-"));
  readonly run = join(this.directory, "run");
  readonly netdReports = join(this.directory, "netd-reports");
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();

  /** @param launcher compiled */
  constructor(launcher: string) {
    const lib = join(this.directory, "lib");
    const bin = join(this.directory, "bin");
    for (const each of [lib, bin]) mkdirSync(each);
    mkdirSync(this.run, { mode: 0o700 });
    for (const name of ["standalone", "netctl", "netd"]) writeFileSync(join(lib, `${name}.cjs`), echo(name));
    for (const name of ["bridge", "netctl"]) {
      copyFileSync(launcher, join(bin, name));
      chmodSync(join(bin, name), 0o755);
    }
  }

  bin(name: string): string {
    return join(this.directory, "bin", name);
  }

  get socketPath(): string {
    return join(this.run, `netd-${statSync("/proc/self/ns/net", { bigint: true }).ino}.sock`);
  }

  get lockPath(): string {
    return this.socketPath.replace(/sock$/, "lock");
  }

  environment(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      PATH: process.env["PATH"] ?? "",
      CNI_COMMAND: "ADD",
      NETCTL_RUN_DIR: this.run,
      NETCTL_NETD: "never",
      NETCTL_TEST_NETD: this.netdReports,
      ...more,
    };
  }

  /** Starts it with stdio of the test's choice. */
  start(options: RunOptions, stdio: StdioOptions, command?: readonly string[]): ChildProcess {
    const { name = "bridge", args = [], environment } = options;
    const [file = "", ...rest] = command ?? [this.bin(name)];
    return spawn(file, [...rest, ...args], { env: this.environment(environment), stdio });
  }

  /** Runs it to its end. @param command in place of the executable: a program that becomes it */
  async call(options: RunOptions = {}, command?: readonly string[]): Promise<Ended> {
    const child = this.start(options, ["pipe", "pipe", "pipe"], command);
    let [stdout, stderr] = ["", ""];
    child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.stdin ?? "{}");
    return await new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (exitCode, signal) => resolve({ exitCode, signal, stdout, stderr }));
    });
  }

  /** `call` where the standalone program should be what runs. */
  async standalone(options: RunOptions = {}, command?: readonly string[]): Promise<Standalone> {
    const { stdout, stderr, exitCode } = await this.call(options, command);
    if (exitCode !== 0) throw new Error(`exit code ${String(exitCode)}: ${stdout}${stderr}`);
    return JSON.parse(stdout) as Standalone;
  }

  /** Listens in netd's place. `onRequest` gets each request when it is there whole. */
  async serve(onRequest: (socket: Socket, request: Request) => void): Promise<void> {
    await this.listen((socket) => {
      let received = Buffer.alloc(0);
      socket.on("data", (piece) => {
        received = Buffer.concat([received, piece]);
        if (received.length < headerBytes) return;
        const header = decodeHeader(received);
        if (received.length < headerBytes + bodyBytes(header)) return;
        onRequest(socket, decodeRequest(header, received.subarray(headerBytes)));
      });
    });
  }

  async listen(onConnection: (socket: Socket) => void): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      onConnection(socket);
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.socketPath, resolve));
  }

  async remove(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const server = this.#server;
    if (server) await new Promise((resolve) => server.close(resolve));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** An answer as netd gives it, or with lengths of the test's choice. */
export function answer(outcome: Outcome, lengths?: readonly [stdout: number, stderr: number]): Buffer {
  const [stdout, stderr] = [Buffer.from(outcome.stdout), Buffer.from(outcome.stderr)];
  const header = Buffer.alloc(12);
  header.writeUInt32LE(outcome.exitCode, 0);
  header.writeUInt32LE(lengths?.[0] ?? stdout.length, 4);
  header.writeUInt32LE(lengths?.[1] ?? stderr.length, 8);
  return Buffer.concat([header, stdout, stderr]);
}
