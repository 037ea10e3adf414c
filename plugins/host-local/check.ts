import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { rangeFor } from "#ipam/range.ts";
import { equalIp, formatIp } from "#net/ip.ts";
import { parseHostLocalConfig } from "./config.ts";
import { type HostLocalHost, openLeases } from "./host.ts";

/** The attachment still has a lease, and one for each address of the result that is of these ranges. */
export async function check(request: CheckRequest, host: HostLocalHost): Promise<void> {
  const { containerId, ifName } = request;
  const { sets, dataDir } = parseHostLocalConfig(request.config, request.args, host.directories.leases);
  const leased = await openLeases(host, request.config, dataDir).addressesOf({ containerId, ifName });
  if (leased.length === 0) {
    throw new CniError(
      ErrorCode.Internal,
      `host-local: Failed to find address added by container ${containerId}`,
      { details: `no lease of interface ${ifName} in network ${JSON.stringify(request.config.name)}` },
    );
  }
  const missing = request.prevResult.ips
    .map(({ address }) => address.address)
    .find((ip) => sets.some((set) => rangeFor(set, ip)) && !leased.some((each) => equalIp(each, ip)));
  if (missing) {
    throw new CniError(
      ErrorCode.Internal,
      `host-local: container ${containerId} has no lease for ${formatIp(missing)} of its result`,
    );
  }
}
