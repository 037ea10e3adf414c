import { type ChildProcess, execFile, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** kube-apiserver and kubectl, as `npm run test:kubernetes-api` puts them there. */
const programs = join(import.meta.dirname, "../dist/kubernetes");
const manifests = join(import.meta.dirname, "../deploy/kubernetes");
export const kubeApiserver = join(programs, "kube-apiserver");
export const kubectl = join(programs, "kubectl");

/** The namespace of deploy/kubernetes. */
export const netctlNamespace = "netctl";
const securePort = 6443;
const etcdPort = 2479;

export interface ServerPlace {
  /** Path of the network namespace that it runs in; this process's own where there is none. */
  readonly netns?: string;
  /** Its own there. */
  readonly address: string;
}

/**
 * A real kube-apiserver with an etcd of its own: TLS, RBAC, tokens of service accounts, deploy/kubernetes applied. Both
 * may be killed and started again, and keep their data in a temporary directory.
 */
export class KubernetesServer {
  readonly directory = mkdtempSync(join(tmpdir(), "netctl-kubernetes-"));
  readonly #place: ServerPlace;
  readonly #adminToken = randomBytes(16).toString("hex");
  #server: ChildProcess | undefined;
  #etcd: ChildProcess | undefined;

  private constructor(place: ServerPlace) {
    this.#place = place;
    mkdirSync(this.#path("run"));
    writeFileSync(this.#path("tokens.csv"), `${this.#adminToken},admin,admin,"system:masters"\n`, {
      mode: 0o600,
    });
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeFileSync(this.#path("accounts.key"), privateKey.export({ type: "pkcs1", format: "pem" }), {
      mode: 0o600,
    });
  }

  /** Resolves when it serves our custom resource. */
  static async start(place: ServerPlace): Promise<KubernetesServer> {
    const server = new KubernetesServer(place);
    try {
      await server.startEtcd();
      await server.startServer();
      await server.install();
      return server;
    } catch (error) {
      await server.remove();
      throw error;
    }
  }

  get url(): string {
    return `https://${this.#place.address}:${securePort}`;
  }

  /** Certificate that its own was signed with; there once the server has started. */
  get caFile(): string {
    return this.#path("run", "apiserver.crt");
  }

  /** Says what the server has written to its log. */
  get log(): string {
    return readFileSync(this.#path("apiserver.log"), "utf8");
  }

  /** What deploy/kubernetes has, but for what runs in pods. */
  async install(): Promise<void> {
    await this.kubectl("apply", "-f", join(manifests, "crd.yaml"), "-f", join(manifests, "rbac.yaml"));
    await this.kubectl("wait", "--for", "condition=established", "crd/entries.netctl.io");
    // Discovery and the resource itself come a little after that.
    await this.#until("the custom resource is served", () => this.kubectl("get", "--raw", entriesPath));
  }

  /**
   * A token of the service account of deploy/kubernetes, by the TokenRequest API, as kubelet projects it.
   * @param boundTo a secret with which it ends
   */
  async token(boundTo?: string): Promise<string> {
    const file = this.#path(`request-${randomBytes(4).toString("hex")}.json`);
    let boundObjectRef: object | undefined;
    if (boundTo !== undefined) {
      const uid = await this.kubectl(
        "-n",
        netctlNamespace,
        "get",
        "secret",
        boundTo,
        "-o",
        "jsonpath={.metadata.uid}",
      );
      boundObjectRef = { kind: "Secret", apiVersion: "v1", name: boundTo, uid };
    }
    const spec = { expirationSeconds: 3600, ...(boundObjectRef && { boundObjectRef }) };
    writeFileSync(
      file,
      JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec }),
    );
    const path = `/api/v1/namespaces/${netctlNamespace}/serviceaccounts/netctl/token`;
    const answer = await this.kubectl("create", "--raw", path, "-f", file);
    return (JSON.parse(answer) as { readonly status: { readonly token: string } }).status.token;
  }

  /** A new file with that. */
  async tokenFile(): Promise<string> {
    const file = this.#path(`token-${randomBytes(4).toString("hex")}`);
    writeFileSync(file, await this.token(), { mode: 0o600 });
    return file;
  }

  /** As an administrator; stdout. @throws with its stderr */
  async kubectl(...words: readonly string[]): Promise<string> {
    const server = [
      "--server",
      this.url,
      "--certificate-authority",
      this.caFile,
      "--token",
      this.#adminToken,
    ];
    // Its cache of what there is would outlive a server.
    const args = [...server, "--cache-dir", this.#path("cache"), "--request-timeout", "20s", ...words];
    const options = {
      env: { PATH: process.env["PATH"], HOME: this.directory },
      maxBuffer: 256 * 1024 * 1024,
    };
    const { stdout } = await run(...this.#command(kubectl, args), options);
    return stdout;
  }

  async startEtcd(): Promise<void> {
    const at = (port: number) => `http://${this.#place.address}:${port}`;
    const words = [
      [
        "--data-dir",
        this.#path("etcd"),
        "--listen-client-urls",
        at(etcdPort),
        "--advertise-client-urls",
        at(etcdPort),
      ],
      ["--listen-peer-urls", at(etcdPort + 1), "--initial-advertise-peer-urls", at(etcdPort + 1)],
      [
        "--initial-cluster",
        `default=${at(etcdPort + 1)}`,
        "--unsafe-no-fsync",
        "--logger",
        "zap",
        "--log-level",
        "error",
      ],
    ];
    this.#etcd = spawn(...this.#command("etcd", words.flat()), { stdio: "ignore" });
    await this.#until("etcd answers", () => this.etcdctl("endpoint", "health"));
  }

  /** Starts it with the certificate that it had. @param options further ones of kube-apiserver */
  async startServer(options: readonly string[] = []): Promise<void> {
    const { address } = this.#place;
    const key = this.#path("accounts.key");
    const words = [
      ["--etcd-servers", `http://${address}:${etcdPort}`, "--service-cluster-ip-range", "10.96.0.0/24"],
      ["--bind-address", address, "--advertise-address", address, "--secure-port", String(securePort)],
      [
        "--cert-dir",
        this.#path("run"),
        "--token-auth-file",
        this.#path("tokens.csv"),
        "--authorization-mode",
        "RBAC",
      ],
      [
        "--service-account-issuer",
        "https://kubernetes.default.svc",
        "--service-account-signing-key-file",
        key,
      ],
      ["--service-account-key-file", key, "--api-audiences", "https://kubernetes.default.svc"],
      // There are no nodes, and nothing that this process would tell them.
      ["--endpoint-reconciler-type", "none", "--allow-privileged"],
      options,
    ];
    const log = openSync(this.#path("apiserver.log"), "a");
    this.#server = spawn(...this.#command(kubeApiserver, words.flat()), { stdio: ["ignore", log, log] });
    closeSync(log);
    await this.#until("kube-apiserver is ready", async () => {
      if (this.#server?.exitCode !== null)
        throw new ServerEnded(`kube-apiserver has ended:\n${this.log.slice(-2000)}`);
      await this.kubectl("get", "--raw", "/readyz");
    });
  }

  async killServer(): Promise<void> {
    await end(this.#server);
  }

  async killEtcd(): Promise<void> {
    await end(this.#etcd);
  }

  /** Makes a copy of etcd's data. @returns what restores it from that */
  async copy(): Promise<() => Promise<void>> {
    const kept = this.#path(`copy-${randomBytes(4).toString("hex")}`);
    await this.#whileDown(() => cpSync(this.#path("etcd"), kept, { recursive: true }));
    return async () => {
      await this.#whileDown(() => {
        rmSync(this.#path("etcd"), { recursive: true });
        cpSync(kept, this.#path("etcd"), { recursive: true });
      });
    };
  }

  async #whileDown(work: () => void): Promise<void> {
    await this.killServer();
    await this.killEtcd();
    work();
    await this.startEtcd();
    await this.startServer();
  }

  /** Etcd forgets all history up to now, as kube-apiserver has it do every five minutes. */
  async compact(): Promise<void> {
    const answer = JSON.parse(await this.etcdctl("endpoint", "status", "-w", "json")) as readonly {
      readonly Status: { readonly header: { readonly revision: number } };
    }[];
    await this.etcdctl("compact", String(answer[0]?.Status.header.revision ?? 0));
  }

  /** Stdout. @throws with its stderr */
  async etcdctl(...words: readonly string[]): Promise<string> {
    const args = ["--endpoints", `http://${this.#place.address}:${etcdPort}`, ...words];
    const { stdout } = await run(...this.#command("etcdctl", args), {
      env: { PATH: process.env["PATH"], ETCDCTL_API: "3" },
      maxBuffer: 256 * 1024 * 1024,
    });
    return stdout;
  }

  async remove(): Promise<void> {
    await this.killServer();
    await this.killEtcd();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }

  #path(...parts: readonly string[]): string {
    return join(this.directory, ...parts);
  }

  #command(program: string, args: readonly string[]): [string, string[]] {
    const { netns } = this.#place;
    return netns === undefined ? [program, [...args]] : ["nsenter", [`--net=${netns}`, program, ...args]];
  }

  /** @throws {Error} after a minute and a half, naming what was waited for */
  async #until(what: string, attempt: () => Promise<unknown>): Promise<void> {
    for (const deadlineMs = performance.now() + 90_000; ; await sleep(200)) {
      try {
        await attempt();
        return;
      } catch (error) {
        if (error instanceof ServerEnded) throw error;
        if (performance.now() > deadlineMs) throw new Error(`Waited in vain until ${what}`, { cause: error });
      }
    }
  }
}

const entriesPath = `/apis/netctl.io/v1/namespaces/${netctlNamespace}/entries`;

class ServerEnded extends Error {}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}
