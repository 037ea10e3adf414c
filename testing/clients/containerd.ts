import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { imageName, writeBusyboxImage } from "./image.ts";

const run = promisify(execFile);

export interface ContainerdOptions {
  /** The host's network namespace: containerd and what its client starts run there. */
  readonly host: TestNamespace;
  /** CNI executables, and the conflist that is the network. */
  readonly bin: string;
  readonly conflist: object;
  /** For the client, which hands it to the plugins. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Debian's containerd with root, state and socket of its own, and its client `ctr`. */
export class Containerd {
  readonly directory: string;
  readonly #options: ContainerdOptions;
  readonly #socket: string;
  #process: ChildProcess | undefined;

  private constructor(options: ContainerdOptions) {
    this.#options = options;
    this.directory = mkdtempSync(join(tmpdir(), "netctl-containerd-"));
    this.#socket = join(this.directory, "containerd.sock");
  }

  static async start(options: ContainerdOptions): Promise<Containerd> {
    const containerd = new Containerd(options);
    try {
      await containerd.#start();
      return containerd;
    } catch (error) {
      await containerd.stop();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { directory } = this;
    const config = [
      "version = 2",
      `root = "${directory}/root"`,
      `state = "${directory}/state"`,
      "oom_score = 0",
      'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
      "[grpc]",
      `  address = "${this.#socket}"`,
      '[plugins."io.containerd.internal.v1.opt"]',
      `  path = "${directory}/opt"`,
    ];
    writeFileSync(join(directory, "config.toml"), `${config.join("\n")}\n`);
    const conf = join(directory, "net.d");
    mkdirSync(conf);
    writeFileSync(join(conf, "10-net.conflist"), JSON.stringify(this.#options.conflist));
    const command = [
      `--net=${this.#options.host.path}`,
      "--",
      "containerd",
      "-c",
      join(directory, "config.toml"),
    ];
    this.#process = spawn("nsenter", command, { stdio: "ignore" });
    for (let tries = 0; !existsSync(this.#socket); tries++) {
      if (tries > 300 || this.#process.exitCode !== null) throw new Error("containerd does not start");
      await sleep(100);
    }
    const images = join(directory, "image");
    mkdirSync(images);
    await this.ctr("image", "import", writeBusyboxImage(images));
  }

  /**
   * Runs `ctr`. It executes the plugins itself, from /opt/cni/bin and /etc/cni/net.d whatever one says, so it runs
   * in a mount namespace of its own where ours are there.
   */
  async ctr(...args: readonly string[]): Promise<string> {
    const { directory } = this;
    const { host, bin, environment } = this.#options;
    const script = [
      "set -e",
      "mount -t tmpfs tmpfs /opt",
      "mkdir -p /opt/cni/bin",
      `mount --bind "${bin}" /opt/cni/bin`,
      `mkdir -p "${directory}/etc-upper" && etc=$(mktemp -d) && mount -t tmpfs tmpfs $etc && mkdir $etc/upper $etc/work`,
      "mount -t overlay overlay -o lowerdir=/etc,upperdir=$etc/upper,workdir=$etc/work /etc",
      "mkdir -p /etc/cni/net.d",
      `mount --bind "${directory}/net.d" /etc/cni/net.d`,
      "umount -l $etc && rmdir $etc",
      `exec ctr -a "${this.#socket}" "$@"`,
    ];
    const command = [
      `--net=${host.path}`,
      "--",
      "unshare",
      "-m",
      "sh",
      "-c",
      script.join("\n"),
      "ctr",
      ...args,
    ];
    const { stdout } = await run("nsenter", command, {
      encoding: "utf8",
      env: { PATH: process.env["PATH"] ?? "", ...environment },
      timeout: 120_000,
    });
    return stdout;
  }

  /** `ctr run --cni --rm`: waits for the command and returns what it printed. */
  async runContainer(id: string, ...command: readonly string[]): Promise<string> {
    return await this.ctr("run", "--cni", "--rm", imageName, id, ...command);
  }

  async stop(): Promise<void> {
    const process = this.#process;
    if (process && process.exitCode === null) {
      const ended = new Promise((resolve) => process.once("exit", resolve));
      process.kill("SIGTERM");
      await Promise.race([ended, sleep(10_000)]);
      process.kill("SIGKILL");
    }
    for (const line of execFileSync("cat", ["/proc/self/mounts"], { encoding: "utf8" })
      .split("\n")
      .reverse()) {
      const path = line.split(" ")[1] ?? "";
      if (path.startsWith(`${this.directory}/`)) execFileSync("umount", ["-l", path]);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}
