import { mkdir, readdir } from "node:fs/promises";
import { isIP } from "node:net";
import type { JsonObject, JsonValue } from "#cni/json.ts";
import { runCommand, runTool } from "#conformance/command.ts";
import { eventually, expect, expectEqual } from "#conformance/failure.ts";
import { Namespace } from "#conformance/namespace.ts";
import { type PrintedResult, readResult } from "#conformance/printed-result.ts";
import { Reply } from "#conformance/reply.ts";
import { ping } from "#conformance/traffic.ts";
import { Bystander } from "./bystander.ts";
import { type Kit, type Mode, pause } from "./kit.ts";
import { NetdProcess } from "./netd-process.ts";
import { type HostState, readHostState } from "./state.ts";
import { deviceOf, traces, tuned } from "./traces.ts";

export interface Container {
  readonly id: string;
  /** Its published ports of the host begin after this. */
  readonly firstPort: number;
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
  /** What gives containers their interface: bridge unless told. */
  readonly interfacePlugin?: InterfacePlugin;
  /** A chain of that and this: it is what faults strike. */
  readonly chained?: ChainedPlugin;
  /** Added to that one's configuration. */
  readonly chainedConfig?: JsonObject;
  /** Mounted as the state directory: options of a tmpfs. */
  readonly stateMount?: string;
}

export type InterfacePlugin = "bridge" | "ptp" | "macvlan" | "host-device";
export type ChainedPlugin = "portmap" | "dns" | "tuning" | "bandwidth" | "sbr" | "firewall";

export const network = "faults";

const subnets = { 4: "10.1.0.0/22", 6: "fd00:1::/64" } as const;
/** What a macvlan lies on; beyond it is the outside. */
const uplink = "uplink0";
const outsideAddress = "198.51.100.2";

const interfaceConfigs: Readonly<Record<InterfacePlugin, JsonObject>> = {
  bridge: {
    bridge: "br-faults",
    isDefaultGateway: true,
    ipMasq: true,
    macspoofchk: true,
    hairpinMode: true,
  },
  ptp: { ipMasq: true },
  macvlan: { master: uplink, enabledad: false },
  "host-device": {},
};
const toEverywhere = { 4: { dst: "0.0.0.0/0" }, 6: { dst: "::/0" } } as const;

/** Of chained plugins whose configuration is the same for each container. */
const chainedConfigs: Readonly<Partial<Record<string, JsonObject>>> = {
  tuning: { sysctl: { [tuned.sysctl]: tuned.value }, mtu: tuned.mtu },
  bandwidth: {
    ingressRate: 1_000_000_000,
    ingressBurst: 100_000_000,
    egressRate: 1_000_000_000,
    egressBurst: 100_000_000,
  },
  sbr: {},
  firewall: { ingressPolicy: "same-bridge" },
};

/** Of containers one after the other: 80 and 443 beyond it never meet, while there are less than 363 of them. */
const portsFrom = 20_000;

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
  readonly #interfacePlugin: InterfacePlugin;
  readonly #chainedConfig: JsonObject;
  /** In the order in which a runtime adds. */
  readonly plugins: readonly string[];
  netd: NetdProcess | undefined;
  /** What the first plugin has answered, for what is chained after it. */
  readonly #bridged = new Map<string, JsonObject>();
  /** Sets in which each attachment has elements: read of the first one, and demanded of all others. */
  #ownedSets: readonly string[] | undefined;
  readonly #label: string;
  readonly #namespaces: Namespace[] = [];
  readonly #bystanders: Bystander[] = [];
  /** By id, what is not demanded any more. */
  readonly #forgotten = new Map<string, PrintedResult>();
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
    this.#interfacePlugin = options.interfacePlugin ?? "bridge";
    this.#chainedConfig = options.chainedConfig ?? {};
    this.plugins = [this.#interfacePlugin, ...(options.chained === undefined ? [] : [options.chained])];
    // host-device looks for others who have an IPv6 address, which takes a second or two each time.
    const families = this.#interfacePlugin === "host-device" ? ([4] as const) : ([4, 6] as const);
    const ranges = families.map((family) => [{ subnet: subnets[family] }]);
    const isBridge = this.#interfacePlugin === "bridge";
    this.config = {
      cniVersion: "1.1.0",
      name: network,
      type: this.#interfacePlugin,
      ...interfaceConfigs[this.#interfacePlugin],
      ipam: {
        type: "host-local",
        ranges,
        ...(isBridge ? {} : { routes: families.map((family) => toEverywhere[family]) }),
      },
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
      if (options.hasBystanders === true || world.#interfacePlugin === "macvlan") await world.#addOutside();
      if (options.mode === "netd") await world.startNetd();
      if (options.hasBystanders === true) await world.#addBystanders();
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** Another host on the wire; for containers that are on it themselves, their gateway. */
  async #addOutside(): Promise<void> {
    const outside = await Namespace.create(`${this.#label}-out`);
    this.#namespaces.push(outside);
    await this.host.ip(`link add ${uplink} type veth peer name eth0 netns ${outside.name}`);
    await this.host.ipBatch([`link set ${uplink} up`, `address add 198.51.100.1/24 dev ${uplink}`]);
    await outside.ipBatch(["link set eth0 up", "address add 198.51.100.2/24 dev eth0"]);
    if (this.#interfacePlugin !== "macvlan") return;
    await outside.ipBatch(["address add 10.1.0.1/22 dev eth0", "address add fd00:1::1/64 dev eth0 nodad"]);
  }

  async #addBystanders(): Promise<void> {
    const first = await this.container();
    const second = await this.container();
    const { ips: own } = await this.attach(first);
    const { ips } = await this.attach(second);
    for (const target of [...ips.flatMap(({ ip, gateway }) => [ip, gateway ?? ip]), outsideAddress]) {
      const bystander = new Bystander(first.namespace, target, this.#sourceFor(target, own));
      this.#bystanders.push(bystander);
      await bystander.begun();
    }
  }

  /** A new container: a namespace with nothing but `lo`. */
  async container(): Promise<Container> {
    this.#count += 1;
    const id = `${this.#label}-c${this.#count}`;
    const firstPort = portsFrom + this.#count;
    const namespace = await Namespace.create(id);
    this.#namespaces.push(namespace);
    const container = { id, firstPort, namespace };
    if (this.#interfacePlugin === "host-device") {
      const device = deviceOf(container);
      await this.host.ip(`link add ${device} type veth peer name ${device}p`);
      await this.host.ip(`link set ${device}p up`);
    }
    return container;
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

  /** Calls the last plugin of the chain. */
  async call(verb: string, container: Container, options: CallOptions = {}): Promise<Reply> {
    return await this.#call(this.plugins.at(-1) ?? "", verb, container, options);
  }

  /** As a runtime does it. */
  async #call(
    plugin: string,
    verb: string,
    container: Container | undefined,
    options: CallOptions,
    more: JsonObject = {},
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
    const words = [`--net=${this.host.path}`, ...limited, `${this.kit.bin}/${plugin}`];
    const completed = await runCommand("/usr/bin/nsenter", words, {
      stdin: JSON.stringify({ ...this.#configOf(plugin, container), ...more }),
      environment,
      cwd: "/",
      timeoutMs: options.timeoutMs ?? 60_000,
      ...(options.onStart === undefined ? {} : { onStart: options.onStart }),
    });
    return new Reply(verb, completed);
  }

  #configOf(plugin: string, container: Container | undefined): JsonObject {
    if (plugin === "host-device" && container) return { ...this.config, device: deviceOf(container) };
    if (plugin === this.#interfacePlugin) return this.config;
    const { cniVersion = "1.1.0" } = this.config;
    const alike = chainedConfigs[plugin];
    if (alike !== undefined) {
      const prevResult = container && this.#bridged.get(container.id);
      return {
        cniVersion,
        name: network,
        type: plugin,
        ...alike,
        ...this.#chainedConfig,
        ...(prevResult && { prevResult }),
      };
    }
    if (plugin === "dns") return this.#dnsConfig(cniVersion, container);
    const own = { cniVersion, name: network, type: plugin, capabilities: { portMappings: true } };
    if (container === undefined) return own;
    const ports = [80, 443].map((containerPort) => {
      return { hostPort: container.firstPort + containerPort, containerPort, protocol: "tcp" };
    });
    const prevResult = this.#bridged.get(container.id);
    return { ...own, runtimeConfig: { portMappings: ports }, ...(prevResult && { prevResult }) };
  }

  #dnsConfig(cniVersion: JsonValue, container: Container | undefined): JsonObject {
    // Internal, so that nothing is asked of the servers of whoever runs this.
    const own = { cniVersion, name: network, type: "dns", internal: true };
    if (container === undefined) return own;
    const prevResult = this.#bridged.get(container.id);
    const runtimeConfig = { aliases: { [network]: [nameOf(container)] } };
    return { ...own, runtimeConfig, ...(prevResult && { prevResult }) };
  }

  /** Runs a shell script on the host. */
  async run(script: string): Promise<string> {
    return await runTool("/usr/bin/nsenter", [`--net=${this.host.path}`, "sh", "-c", script]);
  }

  /** Runs netctl on the host, in a process of its own. @returns whether it found nothing to complain about */
  async netctl(...words: readonly string[]): Promise<boolean> {
    const args = [`--net=${this.host.path}`, `${this.kit.bin}/netctl`, ...words];
    const environment = { ...this.#environment, NETCTL_CONFIG: "/dev/null" };
    return (await runCommand("/usr/bin/nsenter", args, { environment, cwd: "/" })).exitCode === 0;
  }

  /** ADD of every plugin but the last. */
  async prepare(container: Container, options: CallOptions = {}): Promise<void> {
    for (const plugin of this.plugins.slice(0, -1)) {
      this.#bridged.set(container.id, (await this.#call(plugin, "ADD", container, options)).expectJson());
    }
  }

  /** ADD that must succeed. From then on the attachment has to be there. */
  async attach(container: Container, options: CallOptions = {}): Promise<PrintedResult> {
    await this.prepare(container, options);
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
    await this.detachRest(container, options);
  }

  /** DEL of every plugin but the last, when that is gone. */
  async detachRest(container: Container, options: CallOptions = {}): Promise<void> {
    for (const plugin of this.plugins.slice(0, -1).reverse())
      (await this.#call(plugin, "DEL", container, options)).expectSilence();
  }

  /** For a DEL or GC that the test itself calls, before it does. */
  forget(container: Container): void {
    const entry = this.#live.get(container.id);
    if (entry) this.#forgotten.set(container.id, entry.result);
    this.#live.delete(container.id);
  }

  /** The DEL did nothing: all has to be there again. False where nobody knows what that is. */
  recall(container: Container): boolean {
    const result = this.#forgotten.get(container.id);
    if (!result) return false;
    this.#live.set(container.id, { container, result });
    return true;
  }

  /** GC that must succeed, with everything valid that has to be there. */
  async collect(options: CallOptions = {}): Promise<void> {
    for (const plugin of this.plugins) (await this.callCollection(options, plugin)).expectSilence();
  }

  async callCollection(options: CallOptions = {}, plugin = this.plugins[0] ?? ""): Promise<Reply> {
    const valid = [...this.#live.keys()].map((containerID) => ({ containerID, ifname: "eth0" }));
    return await this.#call(plugin, "GC", undefined, options, { "cni.dev/valid-attachments": valid });
  }

  async state(): Promise<HostState> {
    const { host, stateDirectory, runDirectory } = this;
    return readHostState({ host, stateDirectory, runDirectory, network });
  }

  /** Journal, leases, kernel and nftables have what has to be there, and nothing else; nor does the container. */
  async expectConsistent(container?: Container): Promise<void> {
    const found = await this.state();
    const [first] = this.#live.keys();
    if (first !== undefined) {
      this.#ownedSets ??= found.owned.flatMap((line) => {
        const [set = "", containerId] = line.split(" ");
        return containerId === first ? [set] : [];
      });
    }
    expectSameState(found, { ...this.#expected(), subnets: found.subnets });
    if (container !== undefined) {
      const isLive = this.#live.has(container.id);
      expectEqual(await linksIn(container.namespace), isLive ? ["eth0", "lo"] : ["lo"], "container's links");
      if (this.plugins.includes("dns")) await this.#expectResolver(container, isLive);
      for (const plugin of this.plugins) {
        await traces[plugin]?.({
          host: this.host,
          container,
          isLive,
          result: this.#live.get(container.id)?.result,
        });
      }
    }
    for (const bystander of this.#bystanders) expect(bystander.lost() === "", bystander.lost());
  }

  /** What leads to the resolver is there, or nothing of it. */
  async #expectResolver({ namespace }: Container, isThere: boolean): Promise<void> {
    const tables = await runTool("/usr/bin/nsenter", [`--net=${namespace.path}`, "nft", "list", "tables"]);
    expectEqual(tables.trim(), isThere ? "table ip netctl_dns" : "", "container's tables");
    const isServed = this.netd?.isRunning === true && isThere;
    const sockets = await runTool("/usr/bin/nsenter", [`--net=${namespace.path}`, "ss", "-Hlun"]);
    expectEqual(sockets.includes("127.0.0.11:"), isServed, "the resolver's socket in the container");
  }

  /** All live containers find this one, and it finds them. */
  async expectNamed(container: Container): Promise<void> {
    for (const { container: other } of this.#live.values()) {
      await this.#expectFound(container, other);
      await this.#expectFound(other, container);
    }
  }

  /** As soon as netd serves, all that are attached find each other, and none finds what is gone. */
  async expectServed(): Promise<void> {
    if (!this.plugins.includes("dns")) return;
    for (const { container } of this.#live.values()) {
      await this.expectNamed(container);
      expectEqual(await lookUp(container, `name-${this.#label}-c0`), [], "what is heard of nobody");
    }
  }

  async #expectFound(asker: Container, wanted: Container): Promise<void> {
    const { ips } = this.#live.get(wanted.id)?.result ?? { ips: [] };
    const expected = ips.map(({ ip }) => ip).sort();
    expectEqual(await lookUp(asker, nameOf(wanted)), expected, `what ${asker.id} hears of ${wanted.id}`);
  }

  /** `expectConsistent`, for what netd does after its caller has gone. */
  async expectSettled(container?: Container, timeoutMs = 10_000): Promise<void> {
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
      records: each(({ id }) => this.plugins.map((plugin) => `${id} eth0 ${plugin} done`)),
      owned: each(({ id }) => (this.#ownedSets ?? []).map((set) => `${set} ${id}`)),
      leases,
      owners: leases,
      names: each(({ id }) => (this.plugins.includes("dns") ? [`${id} eth0`] : [])),
      links: each((_, { interfaces }) => {
        const names = interfaces.filter(({ sandbox }) => sandbox === "").map(({ name }) => name);
        return this.#interfacePlugin === "bridge" ? names.slice(1) : names;
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

  /** By sbr's rules a packet goes where its source belongs: none has a way that has no source yet. */
  #sourceFor(target: string, own: PrintedResult["ips"]): string | undefined {
    if (!this.plugins.includes("sbr")) return undefined;
    return own.find(({ ip }) => isIP(ip) === isIP(target))?.ip;
  }

  /** The container reaches its gateways, and so does what it sends to the outside. */
  async expectWorking(container: Container): Promise<void> {
    const entry = this.#live.get(container.id);
    expect(entry !== undefined, `${container.id} is not attached`);
    // Behind a device that was lent there is nobody.
    if (this.#interfacePlugin === "host-device") return;
    const { ips } = entry.result;
    for (const { ip, gateway } of ips) {
      const source = this.#sourceFor(ip, ips);
      const targets = [
        gateway ?? "",
        ...(isIP(ip) === 4 && this.#bystanders.length > 0 ? [outsideAddress] : []),
      ];
      for (const target of targets) {
        const isReached = await ping(container.namespace, target, 3, source);
        expect(isReached, `the container does not reach ${target}`);
      }
    }
    if (this.plugins.includes("dns")) await this.expectNamed(container);
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
    const nothing = {
      records: [],
      leases: [],
      owners: [],
      names: [],
      links: [],
      elements: [],
      owned: [],
      subnets: [],
    };
    expectSameState(await this.state(), nothing);
    if (this.netd?.isRunning === true) {
      this.netd.signal("SIGTERM");
      expectEqual(await this.netd.ended(), "exit code 0", "netd's end");
    }
    let left: readonly string[] = [];
    // A netd that the launcher started runs still, and frees files behind its answers.
    await eventually(async () => {
      left = await leftovers(this.stateDirectory);
      return left.length === 0;
    }, 10_000);
    expectEqual(left, [], "files that are left at the end");
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

/** Of no other container's name a part. */
function nameOf({ id }: Container): string {
  return `name-${id}`;
}

/** Both addresses of a name, as `dig` hears of them at 127.0.0.11; none where there are none, or nobody answers. */
async function lookUp({ namespace }: Container, name: string): Promise<readonly string[]> {
  const script = `for type in A AAAA; do dig +short +tries=5 +time=2 @127.0.0.11 ${name} $type || true; done`;
  const output = await runTool("/usr/bin/nsenter", [`--net=${namespace.path}`, "sh", "-c", script]);
  return output
    .split("\n")
    .filter((line) => isIP(line) !== 0)
    .sort();
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
    .filter((entry) => !entry.isDirectory() && !/^(lock|last_reserved_ip\.\d+|netctl\.log)$/.test(entry.name))
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(directory.length))
    .sort();
}
