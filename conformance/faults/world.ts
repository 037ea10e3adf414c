import { mkdir, readdir } from "node:fs/promises";
import type { JsonObject } from "#cni/json.ts";
import { runCommand, runTool } from "#conformance/command.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { Namespace } from "#conformance/namespace.ts";
import { type PrintedResult, readResult } from "#conformance/printed-result.ts";
import { Reply } from "#conformance/reply.ts";
import { ping } from "#conformance/traffic.ts";
import { Bystander } from "./bystander.ts";
import { type Kit, type Mode, pause } from "./kit.ts";
import { NetdProcess } from "./netd-process.ts";
import { type HostState, readHostState } from "./state.ts";

export interface Container {
  readonly id: string;
  readonly namespace: Namespace;
}

export interface CallOptions {
  /** `PLACE/NAME` of crash points: see machine/crash-point.ts. */
  readonly crashAt?: readonly string[];
  readonly stopAt?: readonly string[];
  readonly failAt?: readonly string[];
  /** File to which passed points are appended. */
  readonly trace?: string;
  /** "" for a runtime that no longer knows the namespace. */
  readonly netns?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly openFiles?: number;
  readonly timeoutMs?: number;
  readonly onStart?: (processId: number) => void;
}

export interface WorldOptions {
  readonly mode: Mode;
  /** Two containers of the same network that ping each other, their gateway and the outside all the time. */
  readonly hasBystanders?: boolean;
  /** Added to the network's configuration. */
  readonly config?: JsonObject;
  /** Mounted as the state directory: options of a tmpfs. */
  readonly stateMount?: string;
}

export const network = "faults";

/**
 * One host in a network namespace, with directories of its own, containers, and a netd where the mode wants one. It
 * knows which attachments have to be there, and compares that with journal, leases, kernel and nftables.
 */
export class World {
  readonly kit: Kit;
  readonly mode: Mode;
  readonly host: Namespace;
  readonly directory: string;
  readonly stateDirectory: string;
  readonly runDirectory: string;
  readonly config: JsonObject;
  netd: NetdProcess | undefined;
  readonly #label: string;
  readonly #namespaces: Namespace[] = [];
  readonly #bystanders: Bystander[] = [];
  readonly #live = new Map<string, { readonly container: Container; readonly result: PrintedResult }>();
  #count = 0;

  private constructor(kit: Kit, label: string, options: WorldOptions, host: Namespace) {
    this.kit = kit;
    this.mode = options.mode;
    this.#label = label;
    this.host = host;
    this.directory = `${kit.directory}/${label}`;
    this.stateDirectory = `${this.directory}/state`;
    this.runDirectory = `${this.directory}/run`;
    this.config = {
      cniVersion: "1.1.0",
      name: network,
      type: "bridge",
      bridge: "br-faults",
      isDefaultGateway: true,
      ipMasq: true,
      macspoofchk: true,
      hairpinMode: true,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/22" }], [{ subnet: "fd00:1::/64" }]] },
      ...options.config,
    };
  }

  static async open(kit: Kit, label: string, options: WorldOptions): Promise<World> {
    const host = await Namespace.create(`${label}-host`);
    const world = new World(kit, label, options, host);
    world.#namespaces.push(host);
    try {
      for (const directory of [world.stateDirectory, world.runDirectory])
        await mkdir(directory, { recursive: true, mode: 0o700 });
      if (options.stateMount !== undefined) {
        const words = ["-t", "tmpfs", "-o", options.stateMount, "faults", world.stateDirectory];
        await runTool("mount", words);
      }
      await host.ip("link set lo up");
      if (options.mode === "netd") await world.startNetd();
      if (options.hasBystanders === true) await world.#addBystanders();
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  async #addBystanders(): Promise<void> {
    const outside = await Namespace.create(`${this.#label}-out`);
    this.#namespaces.push(outside);
    await this.host.ip(`link add uplink0 type veth peer name eth0 netns ${outside.name}`);
    await this.host.ipBatch(["link set uplink0 up", "address add 198.51.100.1/24 dev uplink0"]);
    await outside.ipBatch(["link set eth0 up", "address add 198.51.100.2/24 dev eth0"]);
    const first = await this.container();
    const second = await this.container();
    await this.attach(first);
    const { ips } = await this.attach(second);
    for (const target of [...ips.flatMap(({ ip, gateway }) => [ip, gateway ?? ip]), "198.51.100.2"]) {
      const bystander = new Bystander(first.namespace, target);
      this.#bystanders.push(bystander);
      await bystander.begun();
    }
  }

  /** A new container: a namespace with nothing but `lo`. */
  async container(): Promise<Container> {
    this.#count += 1;
    const id = `${this.#label}-c${this.#count}`;
    const namespace = await Namespace.create(id);
    this.#namespaces.push(namespace);
    return { id, namespace };
  }

  /** Starts a netd, and waits until it serves. */
  async startNetd(
    options: { readonly openFiles?: number; readonly environment?: Readonly<Record<string, string>> } = {},
  ): Promise<NetdProcess> {
    const netd = this.spawnNetd(options);
    await netd.ready();
    return netd;
  }

  spawnNetd(
    options: { readonly openFiles?: number; readonly environment?: Readonly<Record<string, string>> } = {},
  ): NetdProcess {
    this.netd = NetdProcess.spawn(this.host.path, `${this.kit.lib}/netd.cjs`, {
      environment: { ...this.#environment, ...options.environment },
      ...(options.openFiles === undefined ? {} : { openFiles: options.openFiles }),
    });
    return this.netd;
  }

  get #environment(): Readonly<Record<string, string>> {
    return {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      NETCTL_STATE_DIR: this.stateDirectory,
      NETCTL_RUN_DIR: this.runDirectory,
      NETCTL_CONF_DIR: `${this.directory}/conf`,
      NETCTL_BIN_DIR: this.kit.bin,
      NETCTL_NETD: "never",
      ...(this.mode === "standalone" ? { NETCTL_STANDALONE: "1" } : {}),
    };
  }

  /** Calls the bridge plugin as a runtime does. */
  async call(
    verb: string,
    container: Container | undefined,
    options: CallOptions = {},
    config = this.config,
  ): Promise<Reply> {
    const points = (list: readonly string[] | undefined) => list?.join(",") ?? "";
    const environment: Record<string, string> = {
      ...this.#environment,
      CNI_COMMAND: verb,
      CNI_PATH: this.kit.bin,
      ...(container === undefined
        ? {}
        : {
            CNI_CONTAINERID: container.id,
            CNI_NETNS: options.netns ?? container.namespace.path,
            CNI_IFNAME: "eth0",
          }),
      NETCTL_CRASH_AT: points(options.crashAt),
      NETCTL_STOP_AT: points(options.stopAt),
      NETCTL_FAIL_AT: points(options.failAt),
      NETCTL_FAULT_TRACE: options.trace ?? "",
      ...options.environment,
    };
    const limited = options.openFiles === undefined ? [] : ["prlimit", `--nofile=${options.openFiles}`];
    const words = [`--net=${this.host.path}`, ...limited, `${this.kit.bin}/bridge`];
    const completed = await runCommand("/usr/bin/nsenter", words, {
      stdin: JSON.stringify(config),
      environment,
      cwd: "/",
      timeoutMs: options.timeoutMs ?? 60_000,
      ...(options.onStart === undefined ? {} : { onStart: options.onStart }),
    });
    return new Reply(verb, completed);
  }

  /** ADD that must succeed. From then on the attachment has to be there. */
  async attach(container: Container, options: CallOptions = {}): Promise<PrintedResult> {
    return this.expectAttached(container, await this.call("ADD", container, options));
  }

  /** Takes note of an ADD that has succeeded, or must have. */
  expectAttached(container: Container, reply: Reply): PrintedResult {
    const result = readResult(reply.expectJson(), "1.1.0");
    for (const { ip } of result.ips) {
      for (const other of this.#live.values()) {
        const isTaken =
          other.container.id !== container.id && other.result.ips.some((each) => each.ip === ip);
        expect(!isTaken, `${container.id} got ${ip}, which ${other.container.id} has`);
      }
    }
    this.#live.set(container.id, { container, result });
    return result;
  }

  /** DEL that must succeed. */
  async detach(container: Container, options: CallOptions = {}): Promise<void> {
    this.#live.delete(container.id);
    (await this.call("DEL", container, options)).expectSilence();
  }

  /** For a DEL or GC that the test itself calls, before it does. */
  forget(container: Container): void {
    this.#live.delete(container.id);
  }

  /** GC that must succeed, with everything valid that has to be there. */
  async collect(options: CallOptions = {}): Promise<void> {
    (await this.callCollection(options)).expectSilence();
  }

  async callCollection(options: CallOptions = {}): Promise<Reply> {
    const valid = [...this.#live.keys()].map((containerID) => ({ containerID, ifname: "eth0" }));
    const config = { ...this.config, "cni.dev/valid-attachments": valid };
    return await this.call("GC", undefined, options, config);
  }

  async state(): Promise<HostState> {
    return readHostState({ host: this.host, stateDirectory: this.stateDirectory, network });
  }

  /** Journal, leases, kernel and nftables have what has to be there, and nothing else; nor does the container. */
  async expectConsistent(container?: Container): Promise<void> {
    const { subnets, ...found } = await this.state();
    expectSameState({ ...found, subnets }, { ...this.#expected(), subnets });
    if (container !== undefined) {
      const isLive = this.#live.has(container.id);
      expectEqual(await linksIn(container.namespace), isLive ? ["eth0", "lo"] : ["lo"], "container's links");
    }
    for (const bystander of this.#bystanders) expect(bystander.lost() === "", bystander.lost());
  }

  /** `expectConsistent`, for what netd does after its caller has gone. */
  async expectSettled(container: Container, timeoutMs = 10_000): Promise<void> {
    for (const until = Date.now() + timeoutMs; ; await pause(50)) {
      try {
        return await this.expectConsistent(container);
      } catch (error) {
        if (Date.now() >= until) throw error;
      }
    }
  }

  #expected(): Omit<HostState, "subnets"> {
    const live = [...this.#live.values()];
    const each = (lines: (container: Container, result: PrintedResult) => readonly string[]) =>
      live.flatMap(({ container, result }) => lines(container, result)).sort();
    const leases = each(({ id }, { ips }) => ips.map(({ ip }) => `${ip} ${id} eth0`));
    const hasMasquerade = this.config["ipMasq"] === true && this.config["insistOnBackend"] !== true;
    return {
      records: each(({ id }) => [`${id} eth0 done`]),
      leases,
      owners: leases,
      links: each((_, { interfaces }) => {
        const names = interfaces.filter(({ sandbox }) => sandbox === "").map(({ name }) => name);
        return names.slice(1);
      }),
      elements: each((_, { ips, interfaces }) => {
        const veth = interfaces[1]?.name ?? "";
        const mac = interfaces[2]?.mac ?? "";
        return [
          ...(hasMasquerade ? ips.map(({ ip }) => `masquerade${ip.includes(":") ? "6" : "4"} ${ip}`) : []),
          ...(this.config["macspoofchk"] === true
            ? [`mac_checked ${veth}`, `mac_allowed ${veth} ${mac}`]
            : []),
        ];
      }),
    };
  }

  /** The container reaches its gateways, and so does what it sends to the outside. */
  async expectWorking(container: Container): Promise<void> {
    const entry = this.#live.get(container.id);
    expect(entry !== undefined, `${container.id} is not attached`);
    for (const { gateway } of entry.result.ips) {
      const target = gateway ?? "";
      expect(await ping(container.namespace, target, 3), `the container does not reach ${target}`);
    }
    if (this.#bystanders.length > 0)
      expect(await ping(container.namespace, "198.51.100.2", 3), "the container does not reach the outside");
  }

  /** Detaches what is left, collects, and demands that nothing at all remains. */
  async finish(): Promise<void> {
    for (const bystander of this.#bystanders) {
      expect(await bystander.isAlive(), `a bystander gets no answer any more: ${bystander.lost()}`);
      expect(bystander.lost() === "", bystander.lost());
      await bystander.end();
    }
    this.#bystanders.length = 0;
    for (const { container } of this.#live.values()) await this.detach(container);
    await this.collect();
    const nothing: HostState = { records: [], leases: [], owners: [], links: [], elements: [], subnets: [] };
    expectSameState(await this.state(), nothing);
    if (this.netd?.isRunning === true) {
      this.netd.signal("SIGTERM");
      expectEqual(await this.netd.ended(), "exit code 0", "netd's end");
    }
    expectEqual(await leftovers(this.stateDirectory), [], "files that are left at the end");
  }

  /** Takes everything away, whatever state it is in. */
  async close(): Promise<void> {
    for (const bystander of this.#bystanders) await bystander.end();
    if (this.netd?.isRunning === true) await this.netd.kill();
    for (const namespace of this.#namespaces) {
      if (namespace.removed) continue;
      await namespace.endProcesses();
      await namespace.remove();
    }
  }
}

/** @throws {Failure} naming what is there and should not be, and what should be and is not */
function expectSameState(found: HostState, expected: HostState): void {
  const problems = (Object.keys(expected) as (keyof HostState)[]).flatMap((kind) => {
    const extra = found[kind].filter((line) => !expected[kind].includes(line));
    const missing = expected[kind].filter((line) => !found[kind].includes(line));
    return [
      ...extra.map((line) => `${kind} has "${line}"`),
      ...missing.map((line) => `${kind} lacks "${line}"`),
    ];
  });
  expect(problems.length === 0, problems.join("; "));
}

async function linksIn(namespace: Namespace): Promise<readonly string[]> {
  const output = await runTool("ip", ["-n", namespace.name, "-j", "link"]);
  return (JSON.parse(output) as { readonly ifname: string }[]).map(({ ifname }) => ifname).sort();
}

/** Files that belong to no attachment may stay: locks, and where each range set goes on. */
async function leftovers(directory: string): Promise<readonly string[]> {
  const found = await readdir(directory, { withFileTypes: true, recursive: true });
  return found
    .filter((entry) => !entry.isDirectory() && !/^(lock|last_reserved_ip\.\d+)$/.test(entry.name))
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(directory.length))
    .sort();
}
