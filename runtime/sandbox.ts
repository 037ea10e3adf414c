import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type NetworkList, parseConfList } from "#cni/conflist.ts";
import type { NamespaceIdentity } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import type { Directories } from "#machine/directories.ts";
import { errorCode } from "#machine/io-error.ts";
import { withFileLock } from "#machine/lock.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { native } from "#native/addon.ts";
import type { CachedAttachment } from "./cache.ts";
import { addNetworkList, ChainFailure, type ChainHost, delNetworkList, targetOf } from "./chain.ts";
import { type ConfDirectory, UnknownNetwork } from "./conf-dir.ts";
import { writeDurably } from "./durable-file.ts";
import { type NamespaceProcess, ProcessTable } from "./namespace-processes.ts";
import { sandboxContainerId } from "./network-id.ts";
import { requireExecutables } from "./plugin-call.ts";
import { renderHosts, renderResolvConf } from "./sandbox-files.ts";
import {
  type SandboxAttachment,
  type SandboxRecord,
  SandboxRecordDamage,
  SandboxRecords,
} from "./sandbox-record.ts";

/** A sandbox as it is found. */
export interface Sandbox {
  readonly name: string;
  readonly containerId: string;
  readonly netns: string;
  readonly createdAt: string;
  /**
   * `ready`, or what is wrong: its creation or removal was cut off (`unfinished`), its namespace is not there
   * (`lost`, as after a reboot), or its record can't be read (`damaged`).
   */
  readonly state: "ready" | "unfinished" | "lost" | "damaged";
  readonly attachments: readonly SandboxAttachment[];
}

export interface CreatedSandbox extends Sandbox {
  /** By network, in the order of `attachments`. */
  readonly results: readonly CniResult[];
}

/** The request can't be served as the sandboxes are now. */
export class SandboxFailure extends Error {
  override readonly name = "SandboxFailure";
}

/** Names are file names, host names and parts of CNI's identifiers at once. */
const namePattern = /^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?$/;

const lockTimeoutMs = 120_000;

/**
 * Loopback is up in every sandbox, as in every container: runtimes do that by this plugin too. The version is one
 * that every loopback plugin still in use knows.
 */
const loopback = parseConfList(
  JSON.stringify({ cniVersion: "0.4.0", name: "netctl-loopback", plugins: [{ type: "loopback" }] }),
);
const loopbackAttachment: SandboxAttachment = {
  network: loopback.name,
  ifName: "lo",
  args: [],
  capabilityArgs: {},
};

/**
 * Network namespaces with names, each standing for a container: made, attached to networks and removed over the
 * CNI contract, as a container runtime does it. State is on disk alone, so that any process can go on where
 * another was cut off; operations on one sandbox wait for each other.
 */
export class Sandboxes {
  readonly #directories: Directories;
  readonly #networks: ConfDirectory;
  readonly #host: ChainHost;
  readonly #records: SandboxRecords;

  constructor(directories: Directories, networks: ConfDirectory, host: ChainHost) {
    this.#directories = directories;
    this.#networks = networks;
    this.#host = host;
    this.#records = new SandboxRecords(join(directories.state, "sandboxes"));
  }

  /**
   * Makes a namespace and attaches it to the networks in order. Every network and executable is looked up before
   * anything is made; if an ADD fails, everything is taken back.
   * @throws {SandboxFailure} the name is taken or none
   * @throws {UnknownNetwork}
   * @throws {ChainFailure} a plugin failed
   */
  async create(name: string, attachments: readonly SandboxAttachment[]): Promise<CreatedSandbox> {
    requireName(name);
    return await this.#exclusively(name, async () => {
      const lists = [
        loopback,
        ...(await Promise.all(attachments.map(({ network }) => this.#listOf(network)))),
      ];
      for (const list of lists) requireExecutables(list, this.#host);
      const record: SandboxRecord = {
        name,
        containerId: sandboxContainerId(name),
        netns: join(this.#directories.run, "netns", name),
        createdAt: new Date().toISOString(),
        phase: "creating",
        attachments,
      };
      await this.#claim(record);
      const attached: SandboxAttachment[] = [];
      try {
        await this.#makeNamespace(record);
        const results: CniResult[] = [];
        for (const [index, attachment] of [loopbackAttachment, ...attachments].entries()) {
          const list = lists[index] ?? loopback;
          const result = await addNetworkList(list, targetIn(record, attachment), this.#host);
          attached.push(attachment);
          if (list !== loopback) results.push(result);
        }
        await this.#writeFiles(name, results);
        await this.#records.update({ ...record, phase: "ready" });
        return { ...record, state: "ready", results };
      } catch (error) {
        // A failed ADD has taken itself back. Where it could not, the record stays for another try.
        const isLeft = error instanceof ChainFailure && error.errors.length > 1;
        const left = await this.#takeBack(record, attached, isLeft);
        if (left.length === 0) throw error;
        throw new ChainFailure(`Cannot create sandbox "${name}"`, [error, ...left], error);
      }
    });
  }

  /**
   * Detaches a sandbox from its networks, last first, and removes its namespace. Goes on past a plugin that
   * fails; the record then stays, and a later call tries the rest again. Also for sandboxes whose creation or
   * removal was cut off, whose namespace has gone, or whose record is damaged.
   * @param options.kill ends the processes that run in it, which are a reason to refuse otherwise
   * @throws {SandboxFailure} there is no such sandbox, or processes run in it
   * @throws {ChainFailure} all that failed
   */
  async remove(name: string, options: { readonly kill?: boolean } = {}): Promise<void> {
    requireName(name);
    await this.#exclusively(name, async () => {
      const { record, isDamaged } = await this.#readForRemoval(name);
      const namespace = identifyNamespace(record.netns);
      if (typeof namespace === "object" && isOwnNamespace(namespace)) {
        throw new SandboxFailure(
          `Cannot remove sandbox ${name}: the host's own network is mounted on ${record.netns}; "umount ${record.netns}" first`,
        );
      }
      if (typeof namespace === "object") await emptyOfProcesses(name, namespace, options.kill === true);
      if (!isDamaged) await this.#records.update({ ...record, phase: "removing" });
      const left = await this.#takeBack(record, [loopbackAttachment, ...record.attachments], false);
      if (left.length > 0) throw new ChainFailure(`Cannot remove sandbox "${name}" wholly`, left);
    });
  }

  /** @throws {SandboxFailure} there is none of that name */
  async get(name: string): Promise<Sandbox> {
    requireName(name);
    if (!(await this.#records.names()).includes(name)) throw new SandboxFailure(`sandbox ${name} not found`);
    return await this.#describe(name);
  }

  /** All sandboxes by name, whatever their state. */
  async list(): Promise<readonly Sandbox[]> {
    return await Promise.all((await this.#records.names()).map((name) => this.#describe(name)));
  }

  /** Folder with the `hosts` and, if a network named servers, `resolv.conf` that a sandbox's commands see. */
  filesDirectory(name: string): string {
    return join(this.#directories.run, "sandboxes", name);
  }

  async #describe(name: string): Promise<Sandbox> {
    try {
      const record = await this.#records.read(name);
      if (record === undefined) throw new SandboxFailure(`sandbox ${name} not found`);
      const { containerId, netns, createdAt, attachments, phase } = record;
      const isThere = typeof identifyNamespace(netns) === "object";
      const state = phase !== "ready" ? "unfinished" : isThere ? "ready" : "lost";
      return { name, containerId, netns, createdAt, state, attachments };
    } catch (error) {
      if (error instanceof SandboxRecordDamage) return { ...(await this.#rebuild(name)), state: "damaged" };
      throw error;
    }
  }

  async #readForRemoval(
    name: string,
  ): Promise<{ readonly record: SandboxRecord; readonly isDamaged: boolean }> {
    try {
      const record = await this.#records.read(name);
      if (record === undefined) throw new SandboxFailure(`sandbox ${name} not found`);
      return { record, isDamaged: false };
    } catch (error) {
      if (error instanceof SandboxRecordDamage) return { record: await this.#rebuild(name), isDamaged: true };
      throw error;
    }
  }

  /** What a lost record must have said: names follow from the name, attachments are in the cache of results. */
  async #rebuild(name: string): Promise<SandboxRecord> {
    const containerId = sandboxContainerId(name);
    const attachments = (await this.#cached(containerId))
      .filter(({ network }) => network !== loopback.name)
      .map(({ network, ifName, args, capabilityArgs }) => ({ network, ifName, args, capabilityArgs }));
    const netns = join(this.#directories.run, "netns", name);
    return { name, containerId, netns, createdAt: "", phase: "removing", attachments };
  }

  /** Takes the name. Nothing of somebody else's is touched: neither a sandbox nor a namespace of that name. */
  async #claim(record: SandboxRecord): Promise<void> {
    const { name, netns } = record;
    if ((await this.#records.names()).includes(name)) {
      const { state } = await this.#describe(name);
      const remedy = state === "ready" ? "" : `; it is ${state}, "netctl sandbox rm ${name}" clears it away`;
      throw new SandboxFailure(`sandbox with name ${name} already exists${remedy}`);
    }
    if (typeof identifyNamespace(netns) === "object") {
      throw new SandboxFailure(
        `Cannot make namespace ${netns}: there is one of no sandbox; "umount ${netns}" if nobody needs it`,
      );
    }
    await this.#records.create(record);
  }

  async #makeNamespace({ netns, name }: SandboxRecord): Promise<void> {
    makeDirectory(join(this.#directories.run, "netns"), 0o755);
    // Left by a crash or a reboot: the file on which a namespace was mounted, and files for a sandbox of this name.
    native().removeNamespace(netns);
    await rm(this.filesDirectory(name), { recursive: true, force: true });
    native().createNamespace(netns);
  }

  async #writeFiles(name: string, results: readonly CniResult[]): Promise<void> {
    const directory = this.filesDirectory(name);
    const permissions = { mode: 0o644, directoryMode: 0o755 };
    await writeDurably(join(directory, "hosts"), renderHosts(name, results), permissions);
    const resolvConf = renderResolvConf(results);
    if (resolvConf !== undefined) await writeDurably(join(directory, "resolv.conf"), resolvConf, permissions);
  }

  /**
   * Undoes what a creation may have done, in reverse, and forgets the sandbox if nothing is left. Returns what failed.
   * @param isRecordKept something is left, whatever happens here
   */
  async #takeBack(
    record: SandboxRecord,
    attachments: readonly SandboxAttachment[],
    isRecordKept: boolean,
  ): Promise<unknown[]> {
    const errors: unknown[] = [];
    const attempt = async (act: () => unknown) => {
      try {
        await act();
      } catch (error) {
        errors.push(error);
      }
    };
    const netns = typeof identifyNamespace(record.netns) === "object" ? record.netns : "";
    const cached = await this.#cached(record.containerId).catch(() => []);
    for (const attachment of [...attachments].reverse()) {
      await attempt(() => this.#detach(record, attachment, netns, cached));
    }
    await attempt(() => {
      native().removeNamespace(record.netns);
    });
    await attempt(() => rm(this.filesDirectory(record.name), { recursive: true, force: true }));
    if (errors.length === 0 && !isRecordKept) await attempt(() => this.#records.remove(record.name));
    return errors;
  }

  /** DEL with the network as it was at the ADD; as it is configured now where nothing is cached. */
  async #detach(
    record: SandboxRecord,
    attachment: SandboxAttachment,
    netns: string,
    cached: readonly CachedAttachment[],
  ): Promise<void> {
    const entry = cached.find(
      ({ network, ifName }) => network === attachment.network && ifName === attachment.ifName,
    );
    const list =
      (entry === undefined ? undefined : listAtAdd(entry)) ??
      (await this.#listIfConfigured(attachment.network));
    // Neither cached nor configured: its ADD never succeeded, and removing the network has cleared the rest away.
    if (list === undefined) return;
    const target = entry === undefined ? targetIn(record, attachment) : targetOf(entry);
    await delNetworkList(list, { ...target, netns }, this.#host);
  }

  async #listIfConfigured(network: string): Promise<NetworkList | undefined> {
    try {
      return await this.#listOf(network);
    } catch (error) {
      if (error instanceof UnknownNetwork && error.problems.length === 0) return undefined;
      throw error;
    }
  }

  async #cached(containerId: string): Promise<readonly CachedAttachment[]> {
    return (await this.#host.cache.list()).filter((attachment) => attachment.containerId === containerId);
  }

  async #listOf(network: string): Promise<NetworkList> {
    return network === loopback.name ? loopback : (await this.#networks.find(network)).list;
  }

  async #exclusively<Value>(name: string, action: () => Promise<Value>): Promise<Value> {
    const path = join(this.#directories.run, "locks", `sandbox-${name}`);
    return await withFileLock(path, action, { timeoutMs: lockTimeoutMs });
  }
}

function requireName(name: string): void {
  if (namePattern.test(name)) return;
  throw new SandboxFailure(
    `Cannot use sandbox name ${JSON.stringify(name)}: expected 1 to 64 letters, digits and _ . -, with a letter or digit at both ends`,
  );
}

function targetIn(record: SandboxRecord, { ifName, args, capabilityArgs }: SandboxAttachment) {
  return { containerId: record.containerId, netns: record.netns, ifName, args, capabilityArgs };
}

function listAtAdd(cached: CachedAttachment): NetworkList | undefined {
  try {
    return parseConfList(cached.config);
  } catch {
    return undefined;
  }
}

/** Every process of the host would count as one that runs in the sandbox. */
function isOwnNamespace({ dev, ino }: NamespaceIdentity): boolean {
  const own = identifyNamespace("/proc/self/ns/net");
  return typeof own === "object" && own.dev === dev && own.ino === ino;
}

/** Ends what runs in the namespace, or refuses: a process would keep it alive, unseen and without a network. */
async function emptyOfProcesses(name: string, namespace: NamespaceIdentity, kill: boolean): Promise<void> {
  const deadlineMs = performance.now() + 5000;
  for (;;) {
    const processes = ProcessTable.read().in(namespace);
    if (processes.length === 0) return;
    if (!kill) {
      throw new SandboxFailure(
        `sandbox ${name} is in use by ${describe(processes)}; stop it, or remove with --force`,
      );
    }
    if (performance.now() > deadlineMs) {
      throw new SandboxFailure(`Cannot end the processes of sandbox ${name}: ${describe(processes)}`);
    }
    for (const { pid } of processes) endProcess(pid);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}

function describe(processes: readonly NamespaceProcess[]): string {
  const shown = processes.slice(0, 5).map(({ pid, command }) => `${command} (pid ${pid})`);
  return processes.length > 5 ? `${shown.join(", ")} and ${processes.length - 5} more` : shown.join(", ");
}
