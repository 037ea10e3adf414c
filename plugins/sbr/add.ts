import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniIp, CniResult } from "#cni/result.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { newestVersion } from "#cni/version.ts";
import { withNamespaceLock } from "#journal/attachment-lock.ts";
import { readAddresses } from "#kernel/address.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { findFreeTables, readRoutesOf } from "#kernel/policy-routing.ts";
import type { Route } from "#kernel/route.ts";
import { Undo } from "#kernel/undo.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeRouting, hintsOf, ownAddresses, type RoutedAddress, rulesOf } from "./attachment.ts";
import { parseSbrConfig, type SbrConfig } from "./config.ts";
import { describeMoved, encodeMade, type Made } from "./made.ts";
import { realise, revert } from "./realise.ts";
import { releaseAttachment } from "./release.ts";

/** Choosing tables and filling them takes milliseconds. */
const lockTimeoutMs = 10_000;

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseSbrConfig(request.config);
  const { prevResult } = request.config;
  if (!prevResult) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, "This plugin must be called as chained plugin", {
      details: "sbr needs a prevResult, from the plugins before it in the list",
    });
  }
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  // An ADD that was killed, or is repeated.
  releaseAttachment(key, host, request.netns);
  using namespace = host.kernel.open(request.netns);
  const link = requireInterface(namespace, request.ifName);
  const present = readAddresses(namespace, link.ifindex).map(({ address }) => address);
  const ips = ownAddresses(prevResult, request.ifName, present);
  if (ips.length === 0) return prevResult;
  await withNamespaceLock(
    host.directories.run,
    request.netns,
    () => attach({ config, request, prevResult, host, namespace, link, ips }),
    { timeoutMs: lockTimeoutMs, signal: request.signal },
  );
  return prevResult;
}

function requireInterface(namespace: NetworkNamespace, ifName: string): Link {
  const link = readLink(namespace, parseIfName(ifName));
  if (link) return link;
  throw new CniError(
    ErrorCode.InvalidEnvironment,
    `Cannot find interface ${JSON.stringify(ifName)} of CNI_IFNAME in ${namespace.path}`,
  );
}

interface Work {
  readonly config: SbrConfig;
  readonly request: AddRequest;
  readonly prevResult: CniResult;
  readonly host: PluginHost;
  readonly namespace: NetworkNamespace;
  readonly link: Link;
  readonly ips: readonly CniIp[];
}

async function attach(work: Work): Promise<void> {
  const { request, prevResult, host, namespace } = work;
  const { made, routed } = plan(work);
  const { prevResult: _, ...json } = request.config.json;
  await Undo.run(async (undo) => {
    const entry = await host.journal.begin({
      key: { network: request.config.name, containerId: request.containerId, ifName: request.ifName },
      plugin: "sbr",
      netns: request.netns,
      config: json,
      args: request.args,
      made: encodeMade(made),
    });
    undo.push("journal record", (failures) => {
      // What could not be taken back is for the next DEL or GC, which needs the record.
      if (failures.length === 0) entry.remove();
    });
    request.signal.throwIfAborted();
    undo.push("routes and rules", () => revert(namespace, made, { isLinkThere: true }));
    realise(namespace, made, routed);
    entry.complete(encodeResult(prevResult, newestVersion));
  });
}

/** The reference's first table. */
const firstTable = 100;

function plan({ config, namespace, link, ips }: Work): {
  readonly made: Made;
  readonly routed: readonly RoutedAddress[];
} {
  const tables = config.table === undefined ? findFreeTables(namespace, firstTable, ips.length) : [];
  const routed = describeRouting(config, ips, tables);
  const made: Made = {
    ifindex: link.ifindex,
    rules: [...rulesOf(routed)],
    tables: [...tables],
    moved: config.table === undefined ? movedRoutes(namespace, link, ips).map(describeMoved) : [],
    hints: [...hintsOf(config, ips)],
  };
  return { made, routed };
}

/** Routes of a family in which nothing is routed by source stay where they are: no rule leads to them elsewhere. */
function movedRoutes(
  namespace: NetworkNamespace,
  { ifindex }: Link,
  ips: readonly CniIp[],
): readonly Route[] {
  const families = new Set(ips.map(({ address }) => address.address.family));
  return readRoutesOf(namespace, ifindex).filter(({ family }) => families.has(family));
}
