import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { withNamespaceLock } from "#journal/attachment-lock.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { findFreeTables } from "#kernel/policy-routing.ts";
import { createVrf, enslave, readVrf, readVrfTables, type Vrf } from "#kernel/vrf.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import { keyOf, recordedWork, requireInterface, requirePrevResult } from "#plugins/recorded-work.ts";
import { parseVrfConfig, type VrfConfig } from "./config.ts";
import { encodeMade, type Made, ownAlias } from "./made.ts";
import { leaveVrf, releaseAttachment } from "./release.ts";

const lockTimeoutMs = 10_000;

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseVrfConfig(request.config);
  const prevResult = requirePrevResult(request, "vrf", "missing prevResult from earlier plugin");
  // An ADD that was killed, or is repeated.
  await releaseAttachment(keyOf(request), host, request.netns);
  using namespace = host.kernel.open(request.netns);
  await withNamespaceLock(
    host.directories.run,
    request.netns,
    () => attach(config, { request, prevResult, host, namespace }),
    { timeoutMs: lockTimeoutMs, signal: request.signal },
  );
  return prevResult;
}

interface Work {
  readonly request: AddRequest;
  readonly prevResult: CniResult;
  readonly host: PluginHost;
  readonly namespace: NetworkNamespace;
}

async function attach(config: VrfConfig, { request, prevResult, host, namespace }: Work): Promise<void> {
  const link = requireInterface(namespace, request.ifName);
  const present = requireUsable(readVrf(namespace, config.name), config);
  refuseOtherMaster(namespace, link, present);
  const table = present?.table ?? config.table ?? freeTable(namespace);
  const made: Made = { vrf: config.name, table, ifindex: link.ifindex };
  const intent = { plugin: "vrf", made: encodeMade(made), result: prevResult };
  await recordedWork(request, host, intent, (undo) => {
    undo.push("VRF", () => leaveVrf(namespace, made));
    if (!present) createVrf(namespace, { name: config.name, table, alias: ownAlias });
    crashPoint("vrf-made");
    const vrf = requireUsable(readVrf(namespace, config.name), config);
    if (vrf && link.master !== vrf.ifindex) enslave(namespace, link, vrf);
    crashPoint("vrf-entered");
  });
}

/** @throws {CniError} 7 for a link of that name that is no VRF, or one with another table */
function requireUsable(found: Vrf | "other" | undefined, { name, table }: VrfConfig): Vrf | undefined {
  if (found === "other") {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use vrf configuration: "vrfname" ${JSON.stringify(name)}: there is a link of that name that is no VRF`,
    );
  }
  if (found && table !== undefined && found.table !== table) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use vrf configuration: "table" ${table}: VRF ${name} already exist with different routing table ${found.table}`,
    );
  }
  return found;
}

/** @throws {CniError} 7 */
function refuseOtherMaster(namespace: NetworkNamespace, link: Link, vrf: Vrf | undefined): void {
  if (link.master === undefined || link.master === vrf?.ifindex) return;
  const master = readLink(namespace, link.master)?.name ?? String(link.master);
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `interface ${link.name} has already a master set: ${master}`,
  );
}

/** The first that no VRF has, nor any route or rule. */
function freeTable(namespace: NetworkNamespace): number {
  const taken = readVrfTables(namespace);
  const tables = findFreeTables(namespace, 1, taken.length + 1);
  const free = tables.find((table) => !taken.includes(table));
  if (free === undefined) throw new RangeError("Cannot find a free routing table");
  return free;
}
