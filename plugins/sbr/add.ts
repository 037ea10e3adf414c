import type { AddRequest } from "#cni/plugin.ts";
import type { CniIp, CniResult } from "#cni/result.ts";
import { withNamespaceLock } from "#journal/attachment-lock.ts";
import { readAddresses } from "#kernel/address.ts";
import type { Link } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { findFreeTables, readRoutesOf } from "#kernel/policy-routing.ts";
import type { Route } from "#kernel/route.ts";
import type { PluginHost } from "#plugins/context.ts";
import { keyOf, recordedWork, requireInterface, requirePrevResult } from "#plugins/recorded-work.ts";
import { describeRouting, hintsOf, ownAddresses, type RoutedAddress, rulesOf } from "./attachment.ts";
import { parseSbrConfig, type SbrConfig } from "./config.ts";
import { describeMoved, encodeMade, type Made } from "./made.ts";
import { realise, revert } from "./realise.ts";
import { releaseAttachment } from "./release.ts";

/** Choosing tables and filling them takes milliseconds. */
const lockTimeoutMs = 10_000;

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseSbrConfig(request.config);
  const prevResult = requirePrevResult(request, "sbr", "This plugin must be called as chained plugin");
  // An ADD that was killed, or is repeated.
  releaseAttachment(keyOf(request), host, request.netns);
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
  const intent = { plugin: "sbr", made: encodeMade(made), result: prevResult };
  await recordedWork(request, host, intent, (undo) => {
    undo.push("routes and rules", () => revert(namespace, made, { isLinkThere: true }));
    realise(namespace, made, routed);
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
