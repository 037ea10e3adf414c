import { rm } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "#cni/error-causes.ts";
import type { NamespaceIdentity } from "#cni/plugin.ts";
import type { CniResult, CniRoute } from "#cni/result.ts";
import type { Directories } from "#machine/directories.ts";
import type { Log } from "#machine/log.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { native } from "#native/addon.ts";
import { isDefaultRoute } from "#net/cidr.ts";
import { hostNetns, loopbackNetwork } from "./builtin-networks.ts";
import { addNetworkList, ChainFailure, type ChainHost } from "./chain.ts";
import type { ConfDirectory } from "./conf-dir.ts";
import { sandboxContainerId } from "./network-id.ts";
import { requireExecutables } from "./plugin-call.ts";
import type { PortRequest } from "./port-request.ts";
import { type ChangedSandbox, SandboxChanges } from "./sandbox-changes.ts";
import { notFound, SandboxFailure } from "./sandbox-failure.ts";
import { SandboxParts, type SandboxRouting, targetIn } from "./sandbox-parts.ts";
import { emptyOfProcesses, isOwnNamespace } from "./sandbox-processes.ts";
import {
  type SandboxAttachment,
  type SandboxChange,
  type SandboxRecord,
  SandboxRecordDamage,
} from "./sandbox-record.ts";
import { noSettings, type SandboxSettings } from "./sandbox-settings.ts";
import { plannedRoutes, settleSandbox } from "./sandbox-settling.ts";

/** A sandbox as it is found. */
export interface Sandbox {
  readonly name: string;
  readonly containerId: string;
  readonly netns: string;
  readonly createdAt: string;
  /**
   * `ready`, or what is wrong: a connect or disconnect has begun and may have been cut off (`changing`), its creation or
   * removal was cut off (`unfinished`), its namespace is not there (`lost`, as after a reboot), or its record can't be
   * read (`damaged`).
   */
  readonly state: "ready" | "changing" | "unfinished" | "lost" | "damaged";
  /** What was begun, in state `changing`. */
  readonly change?: SandboxChange;
  readonly attachments: readonly SandboxAttachment[];
  /** Asked for; those that were published have a `hostPort`. */
  readonly ports: readonly PortRequest[];
  readonly settings: SandboxSettings;
}

export interface CreatedSandbox extends Sandbox {
  /** By network, in the order of `attachments`. */
  readonly results: readonly CniResult[];
  /** Ports that no network of it publishes. */
  readonly unpublished: readonly PortRequest[];
}

/** Names are file names, host names and parts of CNI's identifiers at once. */
const namePattern = /^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?$/;

const loopbackAttachment: SandboxAttachment = {
  network: loopbackNetwork,
  ifName: "lo",
  args: [],
  capabilityArgs: {},
  gatewayPriority: 0,
};

/**
 * Network namespaces with names, each standing for a container: made, attached to networks and removed over the
 * CNI contract, as a container runtime does it. State is on disk alone, so that any process can go on where
 * another was cut off; operations on one sandbox wait for each other.
 */
export class Sandboxes {
  readonly #parts: SandboxParts;
  readonly #changes: SandboxChanges;
  readonly #log: Log;

  /** @param log gets the events: a container that has come, or gone */
  constructor(
    directories: Directories,
    networks: ConfDirectory,
    host: ChainHost,
    routing: SandboxRouting,
    log: Log,
  ) {
    this.#log = log;
    this.#parts = new SandboxParts(directories, networks, host, routing);
    this.#changes = new SandboxChanges(this.#parts);
  }

  /**
   * Makes a namespace and attaches it to the networks in order. Every network and executable is looked up before
   * anything is made; if an ADD fails, or a port is taken, everything is taken back. A sandbox of the network `host`
   * has the host's namespace.
   * @throws {SandboxFailure} the name is taken or none
   * @throws {UnknownNetwork}
   * @throws {ChainFailure} a plugin failed
   */
  async create(
    name: string,
    attachments: readonly SandboxAttachment[],
    ports: readonly PortRequest[] = [],
    settings: SandboxSettings = noSettings,
  ): Promise<CreatedSandbox> {
    requireName(name);
    const { host, directories, records } = this.#parts;
    return await this.#parts.exclusively(name, async () => {
      const isOnHost = attachments.some(({ network }) => network === "host");
      const wanted = isOnHost ? attachments : [loopbackAttachment, ...attachments];
      const lists = await Promise.all(wanted.map(({ network }) => this.#parts.listOf(network)));
      for (const list of lists) requireExecutables(list, host);
      const record: SandboxRecord = {
        name,
        containerId: sandboxContainerId(name),
        netns: isOnHost ? hostNetns : join(directories.run, "netns", name),
        createdAt: new Date().toISOString(),
        phase: "creating",
        attachments,
        ports,
        settings,
      };
      await this.#claim(record);
      this.#log.info("creating a sandbox", { containerId: record.containerId, name });
      const made: SandboxAttachment[] = [];
      try {
        await this.#makeNamespace(record);
        const isOfLink = ([key]: readonly [string, string]) => /\/conf\/(?!all\/|default\/)/.test(key);
        const sysctls = Object.entries(settings.sysctls);
        this.#parts.routing.setSysctls(
          record.netns,
          Object.fromEntries(sysctls.filter((each) => !isOfLink(each))),
        );
        const results: CniResult[] = [];
        for (const [index, attachment] of wanted.entries()) {
          const list = lists[index];
          if (list === undefined) continue;
          const result = await addNetworkList(list, targetIn(record, attachment), host);
          made.push(attachment);
          if (attachment !== loopbackAttachment) results.push(result);
        }
        this.#parts.routing.setSysctls(record.netns, Object.fromEntries(sysctls.filter(isOfLink)));
        const settled = await this.#settle(record);
        if (!isOnHost) await this.#parts.writeFiles(record, results);
        const ready: SandboxRecord = { ...record, phase: "ready", ports: settled.ports };
        await records.update(ready);
        this.#report("create", ready);
        return { ...ready, state: "ready", results, unpublished: settled.unpublished };
      } catch (error) {
        // A failed ADD has taken itself back. Where it could not, the record stays for another try.
        const isLeft = error instanceof ChainFailure && error.errors.length > 1;
        const left = await this.#takeBack(record, made, isLeft);
        this.#log.warn("cannot create a sandbox", {
          containerId: record.containerId,
          name,
          error: messageOf(error),
        });
        if (left.length === 0) throw error;
        throw new ChainFailure(`Cannot create sandbox "${name}"`, [error, ...left], error);
      }
    });
  }

  /** One network without ports is as its plugins have left it. */
  async #settle(record: SandboxRecord) {
    if (record.attachments.length < 2 && record.ports.length === 0) return { ports: [], unpublished: [] };
    return await settleSandbox(this.#parts, record, await this.#parts.attachedOf(record));
  }

  /**
   * Attaches a sandbox to one more network while it runs. The default gateway is elected anew, and published ports move
   * with it. If it fails, the sandbox is as it was.
   * @param attachment with an empty `ifName` it is called by the prefix and the first number that is free
   * @throws {SandboxFailure} it is not ready, or attached to that network already
   * @throws {UnknownNetwork}
   * @throws {ChainFailure}
   */
  async connect(name: string, attachment: SandboxAttachment, prefix = "eth"): Promise<ChangedSandbox> {
    requireName(name);
    return await this.#changes.connect(name, attachment, prefix);
  }

  /**
   * Detaches a running sandbox from a network; default gateway and published ports move to what is left.
   * @throws {SandboxFailure} it is not attached to that network
   * @throws {ChainFailure} a plugin failed; the sandbox is `changing` then, and both this and `repair` go on with it
   */
  async disconnect(name: string, network: string): Promise<ChangedSandbox> {
    requireName(name);
    return await this.#changes.disconnect(name, network);
  }

  /**
   * Finishes or takes back a change that was cut off, and makes routes and published ports what they have to be.
   * @throws {SandboxFailure} it can only be removed
   * @throws {ChainFailure}
   */
  async repair(name: string): Promise<ChangedSandbox> {
    requireName(name);
    return await this.#changes.repair(name);
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
    await this.#parts.exclusively(name, async () => {
      const { record, isDamaged } = await this.#readForRemoval(name);
      const isOnHost = record.netns === hostNetns;
      const namespace = isOnHost ? "missing" : identifyNamespace(record.netns);
      if (typeof namespace === "object") refuseOwnNamespace(name, record.netns, namespace);
      if (typeof namespace === "object") await emptyOfProcesses(name, namespace, options.kill === true);
      if (!isDamaged) await this.#parts.records.update({ ...record, phase: "removing" });
      const made = isOnHost ? record.attachments : [loopbackAttachment, ...record.attachments];
      const left = await this.#takeBack(record, made, false);
      if (left.length > 0) throw new ChainFailure(`Cannot remove sandbox "${name}" wholly`, left);
      this.#report("destroy", record);
    });
  }

  /**
   * Looks whether `remove` would refuse, and changes nothing.
   * @throws {SandboxFailure} there is no such sandbox, or processes run in it
   */
  async requireRemovable(name: string, options: { readonly kill?: boolean } = {}): Promise<void> {
    requireName(name);
    const { record } = await this.#readForRemoval(name);
    const namespace = record.netns === hostNetns ? "missing" : identifyNamespace(record.netns);
    if (typeof namespace !== "object") return;
    refuseOwnNamespace(name, record.netns, namespace);
    if (options.kill !== true) await emptyOfProcesses(name, namespace, false);
  }

  /** @throws {SandboxFailure} there is none of that name */
  async get(name: string): Promise<Sandbox> {
    requireName(name);
    const names = await this.#parts.records.names();
    if (!names.includes(name)) throw notFound(name, names);
    return await this.#describe(name);
  }

  /**
   * What an attachment's ADD has answered, without the default routes that another network of the sandbox has instead:
   * what CHECK is to find. Undefined for what is no attachment of it.
   */
  async expectedOf(
    name: string,
    key: { readonly network: string; readonly ifName: string },
  ): Promise<CniResult | undefined> {
    const record = await this.#parts.records.read(name);
    const attached = record === undefined ? [] : await this.#parts.attachedOf(record);
    const index = attached.findIndex(
      ({ attachment }) => attachment.network === key.network && attachment.ifName === key.ifName,
    );
    const result = attached[index]?.result;
    if (result === undefined || attached.length < 2) return result;
    const { gatewayOf = [] } = plannedRoutes(attached).links[index] ?? {};
    const isIts = ({ dst }: CniRoute) => !isDefaultRoute(dst) || gatewayOf.includes(dst.address.family);
    return { ...result, routes: result.routes.filter(isIts) };
  }

  /** All sandboxes by name, whatever their state. */
  async list(): Promise<readonly Sandbox[]> {
    const names = await this.#parts.records.names();
    const found = await Promise.all(
      names.map((name) =>
        this.#describe(name).catch((error: unknown) => {
          // It was removed since the names were read.
          if (error instanceof SandboxFailure) return undefined;
          throw error;
        }),
      ),
    );
    return found.filter((each) => each !== undefined);
  }

  /** Folder with the `hosts` and, if a network named servers, `resolv.conf` that a sandbox's commands see. */
  filesDirectory(name: string): string {
    return this.#parts.filesDirectory(name);
  }

  #report(action: string, { name, containerId }: SandboxRecord): void {
    this.#log.event({ type: "container", action, attributes: { name } }, { containerId });
  }

  async #describe(name: string): Promise<Sandbox> {
    try {
      const record = await this.#parts.records.read(name);
      if (record === undefined) throw notFound(name, []);
      const { phase, change, ...found } = record;
      const isThere = typeof identifyNamespace(found.netns) === "object";
      const isChanging = change !== undefined;
      const state = phase !== "ready" ? "unfinished" : !isThere ? "lost" : isChanging ? "changing" : "ready";
      return { ...found, state, ...(isChanging ? { change } : {}) };
    } catch (error) {
      if (error instanceof SandboxRecordDamage) return { ...(await this.#rebuild(name)), state: "damaged" };
      throw error;
    }
  }

  async #readForRemoval(
    name: string,
  ): Promise<{ readonly record: SandboxRecord; readonly isDamaged: boolean }> {
    try {
      const record = await this.#parts.records.read(name);
      if (record === undefined) throw notFound(name, await this.#parts.records.names());
      return { record, isDamaged: false };
    } catch (error) {
      if (error instanceof SandboxRecordDamage) return { record: await this.#rebuild(name), isDamaged: true };
      throw error;
    }
  }

  /** What a lost record must have said: names follow from the name, attachments are in the cache of results. */
  async #rebuild(name: string): Promise<SandboxRecord> {
    const containerId = sandboxContainerId(name);
    const attachments = (await this.#parts.cachedOf(containerId))
      .filter(({ network }) => network !== loopbackNetwork)
      .map(({ network, ifName, args, capabilityArgs }) => ({
        network,
        ifName,
        args,
        capabilityArgs,
        gatewayPriority: 0,
      }));
    const isOnHost = attachments.some(({ network }) => network === "host");
    const netns = isOnHost ? hostNetns : join(this.#parts.directories.run, "netns", name);
    return {
      name,
      containerId,
      netns,
      createdAt: "",
      phase: "removing",
      attachments,
      ports: [],
      settings: noSettings,
    };
  }

  /** Takes the name. Nothing of somebody else's is touched: neither a sandbox nor a namespace of that name. */
  async #claim(record: SandboxRecord): Promise<void> {
    const { name, netns } = record;
    if ((await this.#parts.records.names()).includes(name)) {
      const { state } = await this.#describe(name);
      const remedy = state === "ready" ? "" : `; it is ${state}, "netctl sandbox rm ${name}" clears it away`;
      throw new SandboxFailure(`sandbox with name ${name} already exists${remedy}`);
    }
    if (netns !== hostNetns && typeof identifyNamespace(netns) === "object") {
      throw new SandboxFailure(
        `Cannot make namespace ${netns}: there is one of no sandbox; "umount ${netns}" if nobody needs it`,
      );
    }
    await this.#parts.records.create(record);
  }

  async #makeNamespace({ netns, name }: SandboxRecord): Promise<void> {
    if (netns === hostNetns) return;
    makeDirectory(join(this.#parts.directories.run, "netns"), 0o755);
    // Left by a crash or a reboot: the file on which a namespace was mounted, and files for a sandbox of this name.
    native().removeNamespace(netns);
    await rm(this.filesDirectory(name), { recursive: true, force: true });
    native().createNamespace(netns);
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
    const cached = await this.#parts.cachedOf(record.containerId).catch(() => []);
    for (const attachment of [...attachments].reverse()) {
      await attempt(() => this.#parts.detach(record, attachment, netns, cached));
    }
    await attempt(() => {
      if (record.netns !== hostNetns) native().removeNamespace(record.netns);
    });
    await attempt(() => rm(this.filesDirectory(record.name), { recursive: true, force: true }));
    if (errors.length === 0 && !isRecordKept) await attempt(() => this.#parts.records.remove(record.name));
    return errors;
  }
}

function refuseOwnNamespace(name: string, netns: string, namespace: NamespaceIdentity): void {
  if (!isOwnNamespace(namespace)) return;
  throw new SandboxFailure(
    `Cannot remove sandbox ${name}: the host's own network is mounted on ${netns}; "umount ${netns}" first`,
  );
}

function requireName(name: string): void {
  if (namePattern.test(name)) return;
  throw new SandboxFailure(
    `Cannot use sandbox name ${JSON.stringify(name)}: expected 1 to 64 letters, digits and _ . -, with a letter or digit at both ends`,
  );
}
