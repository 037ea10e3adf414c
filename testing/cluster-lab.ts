import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { KubernetesServer } from "./kubernetes-server.ts";
import type { BuiltService } from "./netd-lab.ts";
import { patience } from "./patience.ts";
import type { TestNamespace } from "./test-namespace.ts";
import { Underlay } from "./underlay.ts";

const run = promisify(execFile);

/** Hosts of one cluster, each a namespace with a netd of its own, and an etcd on the wire between them. */
export class ClusterLab {
  readonly underlay: Underlay;
  readonly #service: BuiltService;
  readonly #directory = mkdtempSync(join(tmpdir(), "netctl-cluster-"));
  readonly #netds = new Map<number, ChildProcess>();
  readonly #etcds = new Map<number, ChildProcess>();
  readonly #members: number;
  /** Containers that `churn` has made. */
  #churned = 0;
  #kubernetes: KubernetesServer | undefined;

  private constructor(service: BuiltService, hosts: number, members: number) {
    this.#service = service;
    this.#members = members;
    this.underlay = Underlay.create("cluster", hosts);
    for (let member = 1; member < members; member++)
      this.underlay.wire.run(`ip address add ${this.memberAddress(member)}/24 dev wire`);
  }

  /**
   * etcd runs, every host is a member, and every netd serves.
   * @param initFlags further ones of `netctl cluster init`
   * @param members of etcd: member N has 203.0.113.254 less N
   */
  static async start(
    service: BuiltService,
    hosts: number,
    initFlags: readonly string[] = [],
    members = 1,
  ): Promise<ClusterLab> {
    const lab = new ClusterLab(service, hosts, members);
    for (let member = 0; member < members; member++) lab.startEtcd(member);
    for (let member = 0; member < members; member++) await lab.untilEtcdAnswers(member);
    const etcd = lab.#endpoints.flatMap((endpoint) => ["--etcd", endpoint]);
    for (let host = 1; host <= hosts; host++) {
      mkdirSync(lab.path(host, "run"), { recursive: true });
      lab.startNetd(host);
      const words = [...etcd, "--host-name", `h${host}`, ...(host === 1 ? initFlags : [])];
      await lab.netctl(host, "cluster", host === 1 ? "init" : "join", ...words);
    }
    await lab.#untilLive(hosts);
    return lab;
  }

  /** The same with a real API server in place of etcd, at 203.0.113.254. Every host has a token of its own. */
  static async startWithKubernetes(service: BuiltService, hosts: number): Promise<ClusterLab> {
    const lab = new ClusterLab(service, hosts, 0);
    try {
      const netns = lab.underlay.wire.path;
      const server = await KubernetesServer.start({ netns, address: lab.memberAddress(0) });
      lab.#kubernetes = server;
      for (let host = 1; host <= hosts; host++) {
        mkdirSync(lab.path(host, "run"), { recursive: true });
        writeFileSync(lab.tokenFile(host), await server.token(), { mode: 0o600 });
        lab.startNetd(host);
        const words = [
          "--kubernetes",
          server.url,
          "--token-file",
          lab.tokenFile(host),
          "--ca",
          server.caFile,
        ];
        await lab.netctl(host, "cluster", host === 1 ? "init" : "join", ...words, "--host-name", `h${host}`);
      }
      await lab.#untilLive(hosts);
      return lab;
    } catch (error) {
      await lab.remove();
      throw error;
    }
  }

  /** @throws {Error} where etcd is the engine */
  get kubernetes(): KubernetesServer {
    if (!this.#kubernetes) throw new Error("This lab has no API server");
    return this.#kubernetes;
  }

  /** What a host of a lab with an API server shows that. */
  tokenFile(host: number): string {
    return this.path(host, "token");
  }

  /** One host with the embedded engine; nothing else runs. */
  static async startAlone(service: BuiltService): Promise<ClusterLab> {
    const lab = new ClusterLab(service, 1, 0);
    mkdirSync(lab.path(1, "run"), { recursive: true });
    lab.startNetd(1);
    await lab.until("netd serves", async () => (await lab.netctl(1, "dns", "ls").catch(() => "no")) !== "no");
    await lab.netctl(1, "cluster", "init", "--host-name", "h1");
    await lab.#untilLive(1);
    return lab;
  }

  async #untilLive(hosts: number): Promise<void> {
    await this.until("every host is live", async () => {
      const listed = JSON.parse(await this.netctl(1, "cluster", "host", "ls", "--json")) as readonly {
        isLive: boolean;
      }[];
      return listed.length === hosts && listed.every((each) => each.isLive);
    });
  }

  host(host: number): TestNamespace {
    return this.underlay.host(host);
  }

  path(host: number, ...parts: readonly string[]): string {
    return join(this.#directory, `h${host}`, ...parts);
  }

  environment(host: number): Record<string, string> {
    return {
      PATH: process.env["PATH"] ?? "",
      NETCTL_STATE_DIR: this.path(host, "state"),
      NETCTL_RUN_DIR: this.path(host, "run"),
      NETCTL_CONF_DIR: this.path(host, "conf"),
      NETCTL_BIN_DIR: this.#service.bin,
      NETCTL_NETD: "never",
      // The hosts have no server to ask: a name that nobody of theirs has is refused at once.
      NETCTL_RESOLV_CONF: "/dev/null",
      NETCTL_NETD_CGROUP: "none",
    };
  }

  /** Runs netctl on a host; its stdout. @throws with its stderr */
  async netctl(host: number, ...words: readonly string[]): Promise<string> {
    const args = [`--net=${this.host(host).path}`, join(this.#service.bin, "netctl"), ...words];
    const { stdout } = await run("nsenter", args, { env: this.environment(host) });
    return stdout;
  }

  /** One verb of a plugin, as a runtime calls it: its result, or its error. */
  async plugin(
    host: number,
    config: { readonly type: string },
    call: Readonly<Record<string, string>>,
  ): Promise<Readonly<Record<string, unknown>> & { readonly code?: number; readonly msg?: string }> {
    const args = [`--net=${this.host(host).path}`, join(this.#service.bin, config.type)];
    const environment = { ...this.environment(host), CNI_PATH: this.#service.bin, ...call };
    const child = spawn("nsenter", args, { env: environment, stdio: ["pipe", "pipe", "inherit"] });
    child.stdin.end(JSON.stringify(config));
    let text = "";
    for await (const piece of child.stdout) text += String(piece);
    return JSON.parse(text || "{}") as Readonly<Record<string, unknown>>;
  }

  /** A sandbox in a network; its first address. */
  async sandbox(host: number, name: string, ...networks: readonly string[]): Promise<string> {
    const flags = networks.flatMap((network) => ["--network", network]);
    const made = JSON.parse(await this.netctl(host, "sandbox", "create", name, ...flags, "--json")) as {
      readonly attachments: readonly { readonly addresses: readonly string[] }[];
    };
    const [address = ""] = made.attachments.flatMap((each) => each.addresses);
    return address.split("/")[0] ?? "";
  }

  /**
   * Containers `c0`, `c1` … come, on one of the hosts after the other, and go. While there is nobody to ask, one may be
   * refused; it must not be left half done.
   * @param isRemoved which of them go: all unless it is given
   */
  async churn(
    rounds: number,
    network: string,
    hosts: readonly number[],
    isRemoved: (round: number) => boolean = () => true,
  ): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      const name = `c${this.#churned++}`;
      const host = hosts[this.#churned % hosts.length] ?? 0;
      const isMade = await this.sandbox(host, name, network).then(
        () => true,
        () => false,
      );
      if (isMade && isRemoved(round)) await this.netctl(host, "sandbox", "rm", name);
    }
  }

  /** Whether a sandbox gets an answer to one ping. @param words more of ping's options */
  async pings(
    host: number,
    sandbox: string,
    address: string,
    words: readonly string[] = [],
  ): Promise<boolean> {
    const netns = this.path(host, "run", "netns", sandbox);
    try {
      await run("nsenter", [`--net=${netns}`, "ping", "-c1", "-W1", ...words, address]);
      return true;
    } catch (error) {
      // 1: no answer; 2 with these words: no route. Anything else is no answer to the question.
      const { code, message } = error as { readonly code?: number; readonly message: string };
      if (code === 1 || message.includes("Network is unreachable")) return false;
      throw error;
    }
  }

  /** Until it does: what one host makes, the others hear of a little later. */
  async untilPings(host: number, sandbox: string, address: string): Promise<void> {
    await this.until(`${sandbox} on host ${host} reaches ${address}`, () =>
      this.pings(host, sandbox, address),
    );
  }

  startNetd(host: number): void {
    const args = [`--net=${this.host(host).path}`, process.execPath, join(this.#service.lib, "netd.cjs")];
    const environment = { ...this.environment(host), NETCTL_LOG_FILE: this.path(host, "netd.log") };
    this.#netds.set(host, spawn("nsenter", args, { stdio: "ignore", env: environment }));
  }

  /** By its process id: nsenter becomes what it starts. */
  signalNetd(host: number, signal: NodeJS.Signals): void {
    this.#netds.get(host)?.kill(signal);
  }

  async killNetd(host: number): Promise<void> {
    await end(this.#netds.get(host));
  }

  log(host: number): string {
    return readFileSync(this.path(host, "netd.log"), "utf8");
  }

  /** Starts a member that does not run, with the data that it had. */
  startEtcd(member = 0): void {
    const at = (port: number, index = member) => `http://${this.memberAddress(index)}:${port}`;
    const cluster = Array.from({ length: this.#members }, (_, index) => `m${index}=${at(2380, index)}`);
    const words = [
      ["--name", `m${member}`, "--data-dir", this.etcdPath(member), "--initial-cluster", cluster.join()],
      ["--listen-client-urls", at(2379), "--advertise-client-urls", at(2379)],
      ["--listen-peer-urls", at(2380), "--initial-advertise-peer-urls", at(2380)],
      ["--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"],
    ].flat();
    const child = spawn("nsenter", [`--net=${this.underlay.wire.path}`, "etcd", ...words], {
      stdio: "ignore",
    });
    this.#etcds.set(member, child);
  }

  async killEtcd(member = 0): Promise<void> {
    await end(this.#etcds.get(member));
  }

  /** Its data. */
  etcdPath(member = 0): string {
    return join(this.#directory, `etcd${member}`);
  }

  /** Restarts the only etcd without its data. */
  async emptyEtcd(): Promise<void> {
    await this.killEtcd();
    rmSync(this.etcdPath(), { recursive: true, force: true });
    this.startEtcd();
    await this.untilEtcdAnswers();
  }

  /** Runs etcdctl against all members; its stdout. @throws with its stderr */
  async etcdctl(...words: readonly string[]): Promise<string> {
    const args = [`--net=${this.underlay.wire.path}`, "etcdctl", "--endpoints", this.#endpoints.join()];
    const { stdout } = await run("nsenter", [...args, ...words], {
      env: { PATH: process.env["PATH"], ETCDCTL_API: "3" },
      maxBuffer: 64 * 1024 * 1024,
    });
    return stdout;
  }

  memberAddress(member: number): string {
    return `203.0.113.${254 - member}`;
  }

  get #endpoints(): readonly string[] {
    return Array.from({ length: this.#members }, (_, index) => `http://${this.memberAddress(index)}:2379`);
  }

  async untilEtcdAnswers(member = 0): Promise<void> {
    const ask = `exec 3<>/dev/tcp/${this.memberAddress(member)}/2379; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; grep -q '"true"' <&3`;
    await this.until("etcd answers", async () => {
      try {
        await run("nsenter", [`--net=${this.underlay.wire.path}`, "bash", "-c", ask]);
        return true;
      } catch {
        return false;
      }
    });
  }

  /** Asks until it is so. @throws after half a minute, naming what was waited for */
  async until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    const deadlineMs = performance.now() + 30_000 * patience;
    while (!(await isSo())) {
      if (performance.now() > deadlineMs) throw new Error(`Waited in vain until ${what}`);
      await sleep(50);
    }
  }

  async remove(): Promise<void> {
    for (const host of this.#netds.keys()) await this.killNetd(host);
    for (const member of this.#etcds.keys()) await this.killEtcd(member);
    await this.#kubernetes?.remove();
    for (let host = 1; host <= this.underlay.hosts.length; host++) {
      // A process that is a WireGuard device keeps its namespace, and ends with the device.
      this.host(host).run(
        "ip -o link | sed -n 's/^[0-9]*: \\(nx[0-9a-f]*[ab]\\):.*/\\1/p' | while read -r each; do ip link del $each; done",
      );
      const netns = this.path(host, "run", "netns");
      await run("sh", ["-c", `for each in ${netns}/*; do umount "$each" 2>/dev/null || true; done`]);
    }
    this.underlay.remove();
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}
