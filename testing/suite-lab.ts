import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { libDirectory } from "#native/lib-directory.ts";
import { TestNamespace } from "./test-namespace.ts";

/** Programs of the sources as they are now: netctl and the plugins, bundled into a temporary directory. */
export interface BuiltSuite {
  /** For CNI_PATH. */
  readonly bin: string;
  readonly netctl: string;
  remove(): void;
}

const root = join(import.meta.dirname, "..");
const pluginNames = [
  "bridge",
  "macvlan",
  "ptp",
  "tuning",
  "host",
  "none",
  "loopback",
  "host-local",
  "static",
  "portmap",
  "firewall",
  "dns",
];

export async function buildSuite(): Promise<BuiltSuite> {
  const directory = mkdtempSync(join(tmpdir(), "netctl-suite-"));
  const entries = { netctl: "netctl/main.ts", standalone: "suite/standalone.ts" };
  await build({
    entryPoints: Object.entries(entries).map(([out, file]) => ({ in: join(root, file), out })),
    outdir: directory,
    outExtension: { ".js": ".cjs" },
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    logLevel: "error",
    logOverride: { "empty-import-meta": "silent" },
    define: { NETCTL_LIB_DIRECTORY: JSON.stringify(libDirectory()) },
  });
  const bin = join(directory, "bin");
  mkdirSync(bin);
  for (const name of pluginNames) {
    const script = `#!/bin/sh\nexec "${process.execPath}" "${directory}/standalone.cjs" ${name}\n`;
    writeFileSync(join(bin, name), script, { mode: 0o755 });
  }
  return { bin, netctl: join(directory, "netctl.cjs"), remove: () => rmSync(directory, { recursive: true }) };
}

export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A host of its own for one test: a network namespace, and directories for everything that netctl and the plugins keep. */
export class SuiteLab {
  readonly host: TestNamespace;
  readonly directory: string;
  readonly #suite: BuiltSuite;

  constructor(suite: BuiltSuite, hint: string) {
    this.#suite = suite;
    this.host = TestNamespace.create(hint);
    this.directory = mkdtempSync(join(tmpdir(), `netctl-lab-${hint}-`));
  }

  path(...parts: readonly string[]): string {
    return join(this.directory, ...parts);
  }

  /** The namespace of a sandbox, to look into it and to run things there. */
  namespace(path: string): TestNamespace {
    return TestNamespace.at(path);
  }

  /** The variables that keep the programs off the machine's own directories. */
  get environment(): Readonly<Record<string, string>> {
    return {
      PATH: process.env["PATH"] ?? "",
      NETCTL_CONF_DIR: this.path("conf"),
      NETCTL_BIN_DIR: this.#suite.bin,
      NETCTL_STATE_DIR: this.path("state"),
      NETCTL_RUN_DIR: this.path("run"),
      NETCTL_CONFIG: "/dev/null",
      NETCTL_STANDALONE: "1",
      NETCTL_NETD_CGROUP: "none",
    };
  }

  /** Starts netctl in the host; the caller waits for its end. */
  start(...words: readonly string[]) {
    return this.#startWith({}, words);
  }

  #startWith(more: Readonly<Record<string, string>>, words: readonly string[]) {
    const args = [`--net=${this.host.path}`, process.execPath, this.#suite.netctl, ...words];
    return spawn("nsenter", args, {
      env: { ...this.environment, ...more },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** Runs netctl to its end, whatever that is. */
  async netctl(...words: readonly string[]): Promise<Ended> {
    return await this.netctlWith({}, ...words);
  }

  /** The same with further variables. */
  async netctlWith(more: Readonly<Record<string, string>>, ...words: readonly string[]): Promise<Ended> {
    const child = this.#startWith(more, words);
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const exitCode = await new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => resolve(code ?? 1));
    });
    return { exitCode, stdout, stderr };
  }

  /** Runs netctl and returns its stdout. @throws {Error} with stderr where it fails */
  async ok(...words: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.netctl(...words);
    if (exitCode === 0) return stdout;
    throw new Error(`netctl ${words.join(" ")} exited with ${exitCode}: ${stderr}${stdout}`);
  }

  /** Takes the host, every namespace of a sandbox and all directories away. */
  remove(): void {
    // Networks with names start a netd.
    for (const file of listIfThere(this.path("run")).filter((name) => name.endsWith(".lock"))) {
      const pid = Number(readFileSync(this.path("run", file), "utf8"));
      if (pid > 0) killIfThere(pid);
    }
    for (const name of listIfThere(this.path("run/netns"))) {
      this.host.run(`umount '${this.path("run/netns", name)}' 2>/dev/null || true`);
    }
    this.host.remove();
    rmSync(this.directory, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    this.remove();
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

function listIfThere(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
