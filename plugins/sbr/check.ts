import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { readAddresses } from "#kernel/address.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { hasRoutes, rulesFrom } from "#kernel/policy-routing.ts";
import { parseIfName } from "#net/ifname.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";
import type { PluginHost } from "#plugins/context.ts";
import { ownAddresses } from "./attachment.ts";
import { parseSbrConfig, type SbrConfig } from "./config.ts";

/** @throws {CniError} 999 with everything that is not as it should be */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const config = parseSbrConfig(request.config);
  using namespace = host.kernel.open(request.netns);
  const link = readLink(namespace, parseIfName(request.ifName));
  if (!link) {
    throw new CniError(ErrorCode.Internal, `there is no interface ${JSON.stringify(request.ifName)}`);
  }
  const present = readAddresses(namespace, link.ifindex).map(({ address }) => address);
  const problems = ownAddresses(request.prevResult, request.ifName, present).flatMap(({ address }) =>
    problemsOf(namespace, config, link.ifindex, address.address),
  );
  if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
}

function problemsOf(
  namespace: NetworkNamespace,
  config: SbrConfig,
  ifindex: number,
  from: IpAddress,
): readonly string[] {
  const tables = rulesFrom(namespace, from).map(({ table }) => table);
  if (config.table !== undefined) {
    const { table } = config;
    return tables.includes(table) ? [] : [`there is no rule from ${formatIp(from)} to table ${table}`];
  }
  if (tables.length === 0) return [`there is no rule from ${formatIp(from)}`];
  const isRouted = tables.some((table) => hasRoutes(namespace, { table, family: from.family, ifindex }));
  return isRouted
    ? []
    : [`table ${tables.join(", ")} for ${formatIp(from)} has no route through the interface`];
}
