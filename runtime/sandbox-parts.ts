import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type NetworkList, parseConfList } from "#cni/conflist.ts";
import type { Environment } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { decodeResult } from "#cni/result-versions.ts";
import type { Directories } from "#machine/directories.ts";
import { writeDurably } from "#machine/durable-file.ts";
import { withFileLock } from "#machine/lock.ts";
import { builtinNetwork } from "./builtin-networks.ts";
import type { CachedAttachment } from "./cache.ts";
import { type ChainHost, delNetworkList, targetOf } from "./chain.ts";
import { type ConfDirectory, UnknownNetwork } from "./conf-dir.ts";
import type { AttachmentTarget } from "./plugin-call.ts";
import { renderHosts, renderResolvConf } from "./sandbox-files.ts";
import type { RoutePlan } from "./sandbox-plan.ts";
import { type SandboxAttachment, type SandboxRecord, SandboxRecords } from "./sandbox-record.ts";
import { dnsCapability } from "./sandbox-settings.ts";

/** Changes how a sandbox's namespace routes; no verb of CNI does that for an attachment that is made. */
export interface SandboxRouting {
  /** Idempotent. Interfaces that are not there are passed over. */
  apply(netns: string, plan: RoutePlan): void;
  /** @param sysctls by key with slashes @throws an error that names key and reason */
  setSysctls(netns: string, sysctls: Readonly<Record<string, string>>): void;
}

const lockTimeoutMs = 120_000;

/** An attachment of a sandbox that is made, as it was recorded. */
export interface Attached {
  readonly attachment: SandboxAttachment;
  readonly cached: CachedAttachment;
  /** Its network as it was at the ADD. */
  readonly list: NetworkList;
  readonly result: CniResult;
}

/** What the operations on sandboxes share: where things are, and how one of them is locked, read and detached. */
export class SandboxParts {
  readonly directories: Directories;
  readonly networks: ConfDirectory;
  readonly host: ChainHost;
  readonly routing: SandboxRouting;
  readonly records: SandboxRecords;

  constructor(directories: Directories, networks: ConfDirectory, host: ChainHost, routing: SandboxRouting) {
    this.directories = directories;
    this.networks = networks;
    this.host = host;
    this.routing = routing;
    this.records = new SandboxRecords(join(directories.state, "sandboxes"));
  }

  /** Folder with the `hosts` and, if a network named servers, `resolv.conf` that a sandbox's commands see. */
  filesDirectory(name: string): string {
    return join(this.directories.run, "sandboxes", name);
  }

  async exclusively<Value>(name: string, action: () => Promise<Value>): Promise<Value> {
    const path = join(this.directories.run, "locks", `sandbox-${name}`);
    return await withFileLock(path, action, { timeoutMs: lockTimeoutMs });
  }

  /** @throws {UnknownNetwork} */
  async listOf(network: string): Promise<NetworkList> {
    return builtinNetwork(network) ?? (await this.networks.find(network)).list;
  }

  async cachedOf(containerId: string): Promise<readonly CachedAttachment[]> {
    return (await this.host.cache.list()).filter((attachment) => attachment.containerId === containerId);
  }

  /** The attachments of a sandbox that are made, in their order. */
  async attachedOf({ containerId, attachments }: SandboxRecord): Promise<readonly Attached[]> {
    const found: Attached[] = [];
    for (const attachment of attachments) {
      const { network, ifName } = attachment;
      const cached = await this.host.cache.read({ network, ifName, containerId });
      if (cached === undefined) continue;
      const list = listAtAdd(cached) ?? (await this.listOf(network));
      found.push({ attachment, cached, list, result: decodeResult(cached.result, list.cniVersion) });
    }
    return found;
  }

  /** DEL with the network as it was at the ADD; as it is configured now where nothing is cached. */
  async detach(
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
    await delNetworkList(list, { ...target, netns }, this.host);
  }

  async writeFiles(
    { name, settings }: Pick<SandboxRecord, "name" | "settings">,
    results: readonly CniResult[],
  ): Promise<void> {
    const directory = this.filesDirectory(name);
    const permissions = { mode: 0o644, directoryMode: 0o755 };
    await writeDurably(join(directory, "hosts"), renderHosts(name, results, settings), permissions);
    const resolvConf = renderResolvConf(
      results,
      await readHostResolvConf(this.host.environment),
      settings.dns,
    );
    if (resolvConf !== undefined) await writeDurably(join(directory, "resolv.conf"), resolvConf, permissions);
  }

  async #listIfConfigured(network: string): Promise<NetworkList | undefined> {
    try {
      return await this.listOf(network);
    } catch (error) {
      if (error instanceof UnknownNetwork && error.problems.length === 0) return undefined;
      throw error;
    }
  }
}

/** The parameters of an attachment's ADD. Its names begin with that of the sandbox, where that can be one of a host. */
export function targetIn(
  { name, containerId, netns, settings }: SandboxRecord,
  { ifName, args, capabilityArgs }: SandboxAttachment,
): AttachmentTarget {
  const { aliases } = capabilityArgs;
  const all = [...(isHostName(name) ? [name] : []), ...(Array.isArray(aliases) ? aliases : [])];
  const dns = dnsCapability(settings);
  return {
    containerId,
    netns,
    ifName,
    args,
    capabilityArgs: { ...capabilityArgs, aliases: all, ...(dns === undefined ? {} : { dns }) },
  };
}

/** RFC 1123 section 2.1, and underscores. */
function isHostName(name: string): boolean {
  return name.split(".").every((label) => /^\w([\w-]{0,61}\w)?$/.test(label));
}

/** The host's search domains and options are a container's, unless its networks say others. */
async function readHostResolvConf(environment: Environment): Promise<string> {
  const path = environment["NETCTL_RESOLV_CONF"] || "/etc/resolv.conf";
  return await readFile(path, "utf8").catch(() => "");
}

function listAtAdd(cached: CachedAttachment): NetworkList | undefined {
  try {
    return parseConfList(cached.config);
  } catch {
    return undefined;
  }
}
