import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { TestNamespace } from "#testing/test-namespace.ts";
import { imageName, writeBusyboxImage } from "./image.ts";

const run = promisify(execFile);

/**
 * Debian's podman 4 on its CNI back end: a host with network, mount and process namespaces of its own, an empty /run and
 * an empty /var/lib. The plugins find their directories where they have them by default, since podman's own clean-up,
 * which conmon starts, has not the environment of the podman before. Whatever runs there ends with the first process.
 */
export class Podman {
  readonly image = imageName;
  readonly host: TestNamespace;
  readonly #directory: string;
  readonly #bin: string;
  #first: ChildProcess | undefined;
  #pid = 0;

  private constructor(bin: string) {
    this.#bin = bin;
    this.host = TestNamespace.create("podman-host");
    this.#directory = mkdtempSync(join(tmpdir(), "netctl-podman-"));
  }

  /** @param bin folder of the CNI executables */
  static async start(bin: string): Promise<Podman> {
    const podman = new Podman(bin);
    try {
      await podman.#start();
      return podman;
    } catch (error) {
      await podman.stop();
      throw error;
    }
  }

  /** Of the network configurations: what podman writes, and what a user puts there. */
  get confDirectory(): string {
    return join(this.#directory, "net.d");
  }

  /** `podman WORDS…` @returns what it prints @throws with what it says on stderr */
  async run(...words: readonly string[]): Promise<string> {
    const places = ["--root", join(this.#directory, "root"), "--runroot", join(this.#directory, "runroot")];
    return await this.inside("podman", ...places, "--storage-driver", "vfs", ...words);
  }

  /** `podman run -d` of a container that serves its own name as a page at port 80. */
  async serve(name: string, ...flags: readonly string[]): Promise<void> {
    const page = `echo ${name} > /tmp/name; exec httpd -f -p 80 -h /tmp`;
    await this.run(...this.#runWords, "-d", "--name", name, ...flags, imageName, "sh", "-c", page);
  }

  /** `podman run --rm` @returns what the command prints */
  async once(flags: readonly string[], ...command: readonly string[]): Promise<string> {
    return await this.run(...this.#runWords, "--rm", ...flags, imageName, ...command);
  }

  /** A command on this host. */
  async inside(...command: readonly string[]): Promise<string> {
    const where = ["-t", String(this.#pid), "-m", "-p", "-n", "--"];
    const { stdout } = await run("nsenter", [...where, ...command], {
      encoding: "utf8",
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: this.#directory,
        CONTAINERS_CONF: join(this.#directory, "containers.conf"),
        NETCTL_NETD_CGROUP: "none",
      },
      timeout: 180_000,
    });
    return stdout.trim();
  }

  async stop(): Promise<void> {
    if (this.#pid > 0) await this.run("rm", "-f", "-t", "0", "-a").catch(() => "");
    const first = this.#first;
    if (first && first.exitCode === null) {
      const ended = new Promise((resolve) => first.once("exit", resolve));
      first.kill("SIGKILL");
      await ended;
    }
    await this.#removeCgroup();
    this.host.remove();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #cgroup(): string {
    return basename(this.#directory);
  }

  get #runWords(): readonly string[] {
    return ["run", "--cgroup-parent", `/${this.#cgroup}`];
  }

  async #start(): Promise<void> {
    const [ready, images] = [join(this.#directory, "ready"), join(this.#directory, "image")];
    for (const each of [this.confDirectory, images]) mkdirSync(each);
    writeFileSync(join(this.#directory, "containers.conf"), this.#configuration());
    const script = `for each in /run /var/lib; do mount -t tmpfs tmpfs $each; done
      mkdir /run/netns /run/lock; touch ${ready}; exec sleep infinity`;
    const apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    const words = [`--net=${this.host.path}`, "--", ...apart, "sh", "-ec", script];
    const first = spawn("nsenter", words, { stdio: ["ignore", "ignore", "inherit"] });
    this.#first = first;
    while (!existsSync(ready)) {
      if (first.exitCode !== null) throw new Error("Cannot make namespaces for podman");
      await sleep(20);
    }
    this.#pid = Number(readFileSync(`/proc/${first.pid}/task/${first.pid}/children`, "utf8"));
    await this.run("load", "-qi", writeBusyboxImage(images));
    rmSync(images, { recursive: true });
  }

  #configuration(): string {
    return `[containers]
default_ulimits = []
log_driver = "k8s-file"
apparmor_profile = ""
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "${this.#directory}/tmp"
volume_path = "${this.#directory}/volumes"
[network]
network_backend = "cni"
cni_plugin_dirs = ["${this.#bin}"]
network_config_dir = "${this.confDirectory}"
`;
  }

  /** A cgroup stays busy until the kernel has buried what was in it. */
  async #removeCgroup(): Promise<void> {
    const find = ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", `*/${this.#cgroup}*`];
    const left = () => execFileSync("find", find, { encoding: "utf8" }).split("\n").filter(Boolean);
    for (let tries = 0; tries < 100 && left().length > 0; tries++) {
      for (const each of left()) await run("rmdir", [each]).catch(() => undefined);
      await sleep(100);
    }
  }
}
