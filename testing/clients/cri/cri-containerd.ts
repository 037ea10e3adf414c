import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { imageName, writeBusyboxImage } from "#testing/clients/image.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { CriClient } from "./cri.ts";

const run = promisify(execFile);
const pauseImage = "localhost/netctl/pause:1";

export interface CriContainerdOptions {
  /** The host's network namespace: containerd, and the plugins that it starts, run there. */
  readonly host: TestNamespace;
  /** CNI executables: containerd looks in one folder only. */
  readonly bin: string;
  readonly conflist: object;
  /** For the daemon, which hands it to the plugins. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Debian's containerd as a kubelet uses it, by the CRI, with root, state, socket and namespaces of its own. */
export class CriContainerd {
  readonly directory: string;
  readonly image = imageName;
  readonly #options: CriContainerdOptions;
  readonly #cgroup: string;
  #process: ChildProcess | undefined;
  #cri: CriClient | undefined;

  private constructor(options: CriContainerdOptions) {
    this.#options = options;
    this.directory = mkdtempSync(join(tmpdir(), "netctl-cri-"));
    this.#cgroup = basename(this.directory);
  }

  static async start(options: CriContainerdOptions): Promise<CriContainerd> {
    const containerd = new CriContainerd(options);
    try {
      containerd.#configure();
      await containerd.#launch();
      await containerd.#importImages();
      return containerd;
    } catch (error) {
      const log = containerd.log();
      await containerd.stop();
      throw new Error(`Cannot start containerd: ${String(error)}\n${log}`, { cause: error });
    }
  }

  get cri(): CriClient {
    if (!this.#cri) throw new Error("containerd does not run");
    return this.#cri;
  }

  /** The end of what the daemon said. */
  log(): string {
    const path = join(this.directory, "log");
    return existsSync(path) ? readFileSync(path, "utf8").slice(-4000) : "";
  }

  /** Ends the daemon and starts it again; the pods go on meanwhile. */
  async restart(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await this.#end(signal);
    await this.#launch();
  }

  #configure(): void {
    const { directory } = this;
    const cri = '[plugins."io.containerd.grpc.v1.cri"';
    const config = [
      "version = 2",
      `root = "${directory}/root"`,
      `state = "${directory}/state"`,
      "oom_score = 0",
      "[grpc]",
      `  address = "${directory}/containerd.sock"`,
      `${cri}]`,
      `  sandbox_image = "${pauseImage}"`,
      "  restrict_oom_score_adj = true",
      "  disable_apparmor = true",
      "  disable_hugetlb_controller = true",
      "  tolerate_missing_hugetlb_controller = true",
      "  netns_mounts_under_state_dir = true",
      '  stream_server_address = "127.0.0.1"',
      `${cri}.cni]`,
      `  bin_dir = "${this.#options.bin}"`,
      `  conf_dir = "${directory}/net.d"`,
      "  max_conf_num = 1",
      `${cri}.containerd]`,
      '  default_runtime_name = "runc"',
      `${cri}.containerd.runtimes.runc]`,
      '  runtime_type = "io.containerd.runc.v2"',
      '[plugins."io.containerd.internal.v1.opt"]',
      `  path = "${directory}/opt"`,
    ];
    writeFileSync(join(directory, "config.toml"), `${config.join("\n")}\n`);
    mkdirSync(join(directory, "net.d"));
    writeFileSync(join(directory, "net.d/10-net.conflist"), JSON.stringify(this.#options.conflist));
  }

  async #launch(): Promise<void> {
    const { host, environment } = this.#options;
    const socket = join(this.directory, "containerd.sock");
    const script = `exec containerd -c '${this.directory}/config.toml' >> '${this.directory}/log' 2>&1`;
    this.#process = spawn("nsenter", [`--net=${host.path}`, "--", "sh", "-c", script], {
      stdio: "ignore",
      env: { PATH: process.env["PATH"] ?? "", ...environment },
    });
    this.#cri = new CriClient(socket, { cgroupParent: `/${this.#cgroup}` });
    for (let tries = 0; ; tries++) {
      try {
        if ((await this.#cri.status()).get("NetworkReady")?.ok) return;
      } catch {
        // It does not listen yet.
        this.#cri.close();
        this.#cri = new CriClient(socket, { cgroupParent: `/${this.#cgroup}` });
      }
      if (tries > 300 || this.#process.exitCode !== null) throw new Error("the CRI does not get ready");
      await sleep(100);
    }
  }

  async #importImages(): Promise<void> {
    const images = {
      busybox: { name: imageName, command: ["sh"] },
      pause: { name: pauseImage, command: ["sleep", "100000"] },
    };
    for (const [folder, image] of Object.entries(images)) {
      const path = join(this.directory, folder);
      mkdirSync(path);
      const archive = writeBusyboxImage(path, image);
      await run("ctr", [
        "-a",
        join(this.directory, "containerd.sock"),
        "-n",
        "k8s.io",
        "image",
        "import",
        archive,
      ]);
      rmSync(path, { recursive: true });
    }
  }

  async #end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    this.#cri?.close();
    const process = this.#process;
    if (!process || process.exitCode !== null) return;
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill(signal);
    await Promise.race([ended, sleep(10_000, undefined, { ref: false })]);
    process.kill("SIGKILL");
  }

  /** Ends everything, whatever state it is in. Pods that still run are stopped. */
  async stop(): Promise<void> {
    await this.#end();
    for (const pid of await this.#left()) killQuietly(pid);
    for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n").reverse()) {
      const path = line.split(" ")[1] ?? "";
      if (path.startsWith(`${this.directory}/`)) execFileSync("umount", ["-l", path]);
    }
    // A cgroup stays busy until the kernel has buried what was in it.
    const groups = `find /sys/fs/cgroup -depth -type d -path '*/${this.#cgroup}*'`;
    for (let tries = 0; tries < 50 && (await shell(groups)) !== ""; tries++)
      await shell(`${groups} -exec rmdir {} + 2>/dev/null || sleep 0.1`);
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** What outlives the daemon: shims, which this directory is written on, and what runs in the pods' cgroups. */
  async #left(): Promise<readonly number[]> {
    const inPods = await shell(
      `find /sys/fs/cgroup -path '*/${this.#cgroup}/*' -name cgroup.procs -exec cat {} + 2>/dev/null || true`,
    );
    const shims = readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name) && this.#isShim(name));
    return [...new Set([...inPods.split("\n").filter(Boolean), ...shims].map(Number))];
  }

  #isShim(pid: string): boolean {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return (
        (words[0] ?? "").includes("containerd-shim") &&
        words.some((word) => word.startsWith(`${this.directory}/`))
      );
    } catch {
      return false;
    }
  }
}

async function shell(script: string): Promise<string> {
  return (await run("sh", ["-c", script], { encoding: "utf8" })).stdout;
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}
