import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import type { JsonObject } from "#cni/json.ts";
import { Attachment } from "./attachment.ts";
import { runTool } from "./command.ts";
import { expect, Failure, Skip } from "./failure.ts";
import { changes, type Footprint, leaks, takeFootprint } from "./footprint.ts";
import type { KernelFeature } from "./kernel-features.ts";
import { Namespace } from "./namespace.ts";
import { readResult } from "./printed-result.ts";
import { RecordingIpam } from "./recording-ipam.ts";
import { Reply } from "./reply.ts";
import { startServer } from "./traffic.ts";
import { readLinks, text } from "./witness.ts";

export interface Container {
  readonly id: string;
  readonly namespace: Namespace;
}

export interface CallOptions {
  /** Its id becomes CNI_CONTAINERID, its namespace CNI_NETNS. */
  readonly container: Container;
  /** "eth0" if absent. */
  readonly ifName: string;
  /** Overrides the container's path in CNI_NETNS. */
  readonly netns: string;
  /** CNI_ARGS */
  readonly args: string;
  /** Overrides the config's type as the executable to call. */
  readonly plugin: string;
  /** Overrides what is sent; a text is sent as it is. */
  readonly config: JsonObject | string;
  /** Last word on single variables; undefined removes one. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs: number;
  readonly onStart: (processId: number) => void;
}

/** What all labs of one run share. */
export interface Bench {
  /** The folder under test, absolute. */
  readonly bin: string;
  /** Names of its executables. */
  readonly executables: ReadonlySet<string>;
  readonly missingFeatures: ReadonlyMap<KernelFeature, string>;
  /** Below this each lab gets a directory. */
  readonly directory: string;
  /** Passed on to every executable. */
  readonly environment: Readonly<Record<string, string>>;
  /** Every time limit of a call is multiplied by it. */
  readonly patience: number;
  /** How many configurations the fuzz topic tries, and from which seed. */
  readonly fuzz: { readonly count: number; readonly seed: number };
}

/**
 * The world of one case: a namespace that plays the host, containers, an outside, and directories of its own.
 * It calls the executables under test by environment and stdin, and knows afterwards what they left behind.
 */
export class Lab {
  readonly bench: Bench;
  readonly host: Namespace;
  readonly directory: string;
  /** host-local's dataDir. */
  readonly dataDir: string;
  readonly stateDir: string;
  readonly runDir: string;
  readonly confDir: string;
  /** First entry of CNI_PATH: executables of the case's own. */
  readonly ownBin: string;
  readonly #label: string;
  readonly #containers: Container[] = [];
  #containerCount = 0;
  readonly #namespaces: Namespace[] = [];
  readonly #attachments: Attachment[] = [];
  readonly #processes: ChildProcess[] = [];
  readonly #besides: Lab[] = [];
  #baseline: Promise<Footprint> | undefined;

  private constructor(bench: Bench, label: string, host: Namespace) {
    this.bench = bench;
    this.#label = label;
    this.host = host;
    this.directory = `${bench.directory}/${label}`;
    this.dataDir = `${this.directory}/leases`;
    this.stateDir = `${this.directory}/state`;
    this.runDir = `${this.directory}/run`;
    this.confDir = `${this.directory}/conf`;
    this.ownBin = `${this.directory}/bin`;
  }

  static async open(bench: Bench, label: string): Promise<Lab> {
    const host = await Namespace.create(`${label}-host`, bench.patience);
    const lab = new Lab(bench, label, host);
    lab.#namespaces.push(host);
    for (const directory of [lab.stateDir, lab.runDir, lab.confDir, lab.ownBin])
      await mkdir(directory, { recursive: true });
    await host.ip("link set lo up");
    return lab;
  }

  has(executable: string): boolean {
    return this.bench.executables.has(executable);
  }

  /** @throws {Skip} unless all are in the folder under test */
  requires(...executables: readonly string[]): void {
    for (const executable of executables) {
      if (!this.has(executable)) throw new Skip(`no executable ${executable}`);
    }
  }

  /** A new container: a namespace with nothing but `lo`, which is down. */
  async container(id?: string): Promise<Container> {
    this.#containerCount += 1;
    const number = this.#containerCount;
    const namespace = await Namespace.create(`${this.#label}-c${number}`, this.bench.patience);
    this.#namespaces.push(namespace);
    const container = { id: id ?? `${this.#label}-container-${number}`, namespace };
    this.#containers.push(container);
    return container;
  }

  /** Another container in the same namespace: enough for an IPAM, which looks at the id alone. */
  sibling(container: Container, id?: string): Container {
    this.#containerCount += 1;
    const sibling = {
      id: id ?? `${this.#label}-container-${this.#containerCount}`,
      namespace: container.namespace,
    };
    this.#containers.push(sibling);
    return sibling;
  }

  /** Another host, with directories of its own; settled and closed with this one. */
  async beside(): Promise<Lab> {
    const lab = await Lab.open(
      this.bench,
      `${this.#label}-${String.fromCharCode(98 + this.#besides.length)}`,
    );
    this.#besides.push(lab);
    return lab;
  }

  /** Another namespace that is no container. */
  async namespace(label: string): Promise<Namespace> {
    const namespace = await Namespace.create(`${this.#label}-${label}`, this.bench.patience);
    this.#namespaces.push(namespace);
    return namespace;
  }

  /** A machine outside, one hop from the host, which knows no way to the containers' networks. */
  async outside(): Promise<Outside> {
    const namespace = await this.namespace("out");
    await this.host.ip(`link add uplink0 type veth peer name eth0 netns ${namespace.name}`);
    await this.host.ipBatch([
      "link set uplink0 up",
      "address add 198.51.100.1/24 dev uplink0",
      "address add 2001:db8:51::1/64 dev uplink0 nodad",
    ]);
    await namespace.ipBatch([
      "link set lo up",
      "link set eth0 up",
      "address add 198.51.100.2/24 dev eth0",
      "address add 2001:db8:51::2/64 dev eth0 nodad",
    ]);
    return {
      namespace,
      ip4: "198.51.100.2",
      ip6: "2001:db8:51::2",
      host4: "198.51.100.1",
      host6: "2001:db8:51::1",
    };
  }

  /** Starts the server of traffic.ts inside; it ends with the case. */
  async serve(namespace: Namespace, port?: number): Promise<void> {
    this.#processes.push(await startServer(namespace, port));
  }

  /** A process of the case's own, inside; it ends with the case. */
  run(namespace: Namespace, command: string, args: readonly string[]): ChildProcess {
    const child = spawn("/usr/bin/nsenter", [`--net=${namespace.path}`, command, ...args], {
      stdio: "ignore",
    });
    this.#processes.push(child);
    return child;
  }

  /** Keeps a process in the namespace until the case ends. @returns its path, /proc/PID/ns/net */
  async holdOpen(namespace: Namespace): Promise<string> {
    const holder = spawn(
      "/usr/bin/nsenter",
      [`--net=${namespace.path}`, "sh", "-c", "echo in; exec sleep 60"],
      {
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
    this.#processes.push(holder);
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    return `/proc/${String(holder.pid)}/ns/net`;
  }

  /** Puts a scripted IPAM under the name `type` first into CNI_PATH. */
  ipam(type = "scripted-ipam", binDirectory = this.ownBin): Promise<RecordingIpam> {
    return RecordingIpam.install(type, binDirectory, `${this.directory}/records`);
  }

  /** What every executable finds in its environment. */
  get environment(): Readonly<Record<string, string>> {
    return {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      NETCTL_STATE_DIR: this.stateDir,
      NETCTL_RUN_DIR: this.runDir,
      NETCTL_CONF_DIR: this.confDir,
      ...this.bench.environment,
    };
  }

  /** Calls an executable: environment and stdin in, exit code and stdout out. */
  async call(verb: string, config: JsonObject | string, options: Partial<CallOptions> = {}): Promise<Reply> {
    // Calls at the same time share the footprint that the first of them took.
    this.#baseline ??= this.footprint();
    await this.#baseline;
    const sent = options.config ?? config;
    const configured = typeof config === "string" ? undefined : config["type"];
    const plugin = options.plugin ?? (typeof configured === "string" ? configured : "");
    this.requires(plugin);
    const netns = options.netns ?? options.container?.namespace.path;
    const wanted: Record<string, string | undefined> = {
      ...this.environment,
      CNI_COMMAND: verb,
      CNI_PATH: `${this.ownBin}:${this.bench.bin}`,
      CNI_CONTAINERID: options.container?.id,
      CNI_NETNS: netns,
      CNI_IFNAME: options.container === undefined ? undefined : (options.ifName ?? "eth0"),
      CNI_ARGS: options.args,
      ...options.environment,
    };
    const environment: Record<string, string> = {};
    for (const [name, value] of Object.entries(wanted)) {
      if (value !== undefined) environment[name] = value;
    }
    const completed = await this.host.enter(`${this.bench.bin}/${plugin}`, [], {
      stdin: typeof sent === "string" ? sent : JSON.stringify(sent),
      environment,
      cwd: "/",
      timeoutMs: (options.timeoutMs ?? 30_000) * this.bench.patience,
      ...(options.onStart === undefined ? {} : { onStart: options.onStart }),
    });
    return new Reply(`${plugin} ${verb}`.trim(), completed);
  }

  /** ADD that must succeed, with a result in the shape of the config's version. Its DEL follows at the end. */
  async attach(
    config: JsonObject,
    container: Container,
    options: Partial<CallOptions> = {},
  ): Promise<Attachment> {
    const reply = await this.call("ADD", config, { container, ...options });
    const json = reply.expectJson();
    const attachment = new Attachment(this, {
      config,
      container,
      ifName: options.ifName ?? "eth0",
      args: options.args,
      plugin: options.plugin,
      result: readResult(json, text(config["cniVersion"])),
    });
    this.#attachments.push(attachment);
    return attachment;
  }

  /**
   * ADD that must be refused, leaving the host exactly as it was.
   * @param names what message or details must name
   */
  async refuse(
    config: JsonObject | string,
    names: RegExp | readonly RegExp[],
    options: Partial<CallOptions> & { readonly code?: number | readonly number[] } = {},
  ): Promise<void> {
    const { code, ...callOptions } = options;
    const container = callOptions.container ?? (await this.container());
    await this.unchanged(async () => {
      const reply = await this.call("ADD", config, { container, ...callOptions });
      reply.expectError({ names, ...(code === undefined ? {} : { code }) });
    });
  }

  /** Runs `act` and demands that the host is then exactly as before. */
  async unchanged(act: () => Promise<void>): Promise<void> {
    const before = await this.footprint();
    this.#baseline ??= Promise.resolve(before);
    await act();
    const found = changes(before, await this.footprint());
    expect(found.length === 0, `the host was changed: ${found.join("; ")}`);
  }

  footprint(): Promise<Footprint> {
    return takeFootprint(this.host, [this.dataDir, this.stateDir, this.runDir, this.confDir]);
  }

  /** Takes what the case itself changed on the host as the state to return to. */
  async rebase(): Promise<void> {
    this.#baseline = this.footprint();
    await this.#baseline;
  }

  /** What attachments left on the host since the first call. */
  async leftBehind(): Promise<readonly string[]> {
    if (this.#baseline === undefined) return [];
    return leaks(await this.#baseline, await this.footprint(), {
      containerIds: this.#containers.map((container) => container.id),
      marks: this.#attachments.flatMap((attachment) => [
        ...attachment.result.ips.map((entry) => entry.ip),
        ...attachment.result.interfaces
          .filter((entry) => entry.name !== attachment.config["bridge"])
          .flatMap((entry) => [entry.mac, entry.sandbox === "" ? entry.name : ""]),
      ]),
    });
  }

  /**
   * Ends the case as a runtime would: DEL for every attachment that is still there.
   * @throws {Failure} if one fails, or if something stayed behind
   */
  async settle(): Promise<void> {
    for (const attachment of this.#attachments.toReversed()) {
      if (attachment.deleted) continue;
      const gone = attachment.container.namespace.removed;
      const reply = await attachment.delWithResult(gone ? { netns: "" } : {});
      reply.expectSilence();
    }
    let found = [...(await this.leftBehind())];
    // A service may clear records away behind its answer, and the kernel removes the links of a namespace that
    // has gone in its own time. All else must be gone with the answer.
    const patient = this.#namespaces.some((namespace) => namespace.removed) ? /^(file|link) / : /^file /;
    const mayGo = (): boolean => found.length > 0 && found.every((left) => patient.test(left));
    for (let waited = 0; waited < 30 && mayGo(); waited += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      found = [...(await this.leftBehind())];
    }
    for (const { container, ifName } of this.#attachments) {
      if (container.namespace.removed || ifName === "lo") continue;
      const links = await readLinks(container.namespace);
      if (links.some((link) => link.name === ifName)) found.push(`${ifName} in the container`);
    }
    if (found.length > 0) throw new Failure(`left behind after DEL: ${[...new Set(found)].join("; ")}`);
    for (const lab of this.#besides) await lab.settle();
  }

  /** Removes everything that the lab made, and ends what the executables started in its namespaces. */
  async close(): Promise<void> {
    for (const lab of this.#besides) await lab.close();
    for (const process of this.#processes) process.kill("SIGKILL");
    for (const namespace of this.#namespaces) await namespace.endProcesses();
    for (const namespace of this.#namespaces.toReversed()) await namespace.remove();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** A small file system of the lab's own at `path`, removed with `unmount()`. */
  async mountTmpfs(path: string, options: string): Promise<void> {
    await mkdir(path, { recursive: true });
    await runTool("mount", ["-t", "tmpfs", "-o", options, "conformance", path]);
  }

  async unmount(path: string): Promise<void> {
    await runTool("umount", ["-l", path]);
  }
}

export interface Outside {
  readonly namespace: Namespace;
  readonly ip4: string;
  readonly ip6: string;
  /** The host's addresses on the same link: what a masqueraded packet comes from. */
  readonly host4: string;
  readonly host6: string;
}
